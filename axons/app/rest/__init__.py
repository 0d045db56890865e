"""The REST API below `/api/v1`: thin routes that call the services."""
