"""OpenAI's JSON <-> our protos: pure functions, no transport."""
