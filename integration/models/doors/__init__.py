"""Doors to providers: one interface (`integration.models.port.Door`), one way in for each kind of provider."""
