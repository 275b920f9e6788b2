"""What happens around every call, one concern a file.

Server side (outermost first): telemetry, errors, admission, principal, deadline, tenant guard. Client side: principal,
deadline, trace. `kit.server` and `kit.channel` put them together.
"""
