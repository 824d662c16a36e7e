"""The HTTP API: thin routes over `migsvc.service`, problem documents, OpenAPI. No decisions are made here.

`ROUTERS` lists every router; `migsvc.app.create_app` mounts them. `errors.py` alone knows status codes of errors.
"""
