"""The OpenAPI document and a page that shows it, both served from this process alone.

The page is Swagger UI from an installed package: it works without any network, and its content security policy keeps
the browser from asking anyone else.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from openapi_ui_bundles import swagger_ui
from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.control.operation import Answer, Operation, Parameter
from gateway.errors import NotFoundError

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>manymodels API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/start.js"></script>
</body>
</html>
"""
# validatorUrl null: the default asks a validator on the internet for a badge.
START: Final = b"""SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true
});
"""
_TYPES: Final[Mapping[str, str]] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript",
}
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_KEEP: Final = {**_HEADERS, "cache-control": "max-age=3600"}


async def page(_context: Context, _request: Request) -> Response:
    """The page."""
    return Response(PAGE, media_type="text/html", headers=_HEADERS)


async def asset(context: Context, request: Request) -> Response:
    """A file of the page."""
    name = str(request.path_params["name"])
    if name not in _TYPES:
        raise NotFoundError("the page has no such file")
    return Response(await context.run(_asset, name), media_type=_TYPES[name], headers=_KEEP)


@cache
def _asset(name: str) -> bytes:
    if name == "start.js":
        return START
    return (Path(swagger_ui.static_path) / name).read_bytes()


def operations(document: Callable[[], bytes]) -> tuple[Operation, ...]:
    """The operations of this module; `document` answers the OpenAPI document of all operations."""

    async def show(_context: Context, _request: Request) -> Response:
        return Response(document(), media_type="application/json", headers=_HEADERS)

    return (
        Operation(
            "GET",
            "/openapi.json",
            "getOpenApi",
            "operations",
            "This document",
            (Answer(200, "OpenAPI 3.1", schema={"type": "object"}),),
            show,
        ),
        Operation(
            "GET",
            "/docs",
            "getDocs",
            "operations",
            "This document as a page",
            (Answer(200, "a page that works offline", media="text/html", schema={"type": "string"}),),
            page,
        ),
        Operation(
            "GET",
            "/docs/assets/{name}",
            "getDocsAsset",
            "operations",
            "A file of the page",
            (Answer(200, "the file"),),
            asset,
            parameters=(Parameter("name", "path", "file name", {"type": "string", "enum": list(_TYPES)}, True),),
            documented=False,
        ),
    )
