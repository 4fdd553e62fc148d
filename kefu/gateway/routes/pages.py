"""The chat page and its files. They are read into memory at the start, because a request must not wait for the disk."""

import hashlib
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Dict

import orjson
from sanic import Blueprint, HTTPResponse, Request

from kefu.gateway.problems import Problem
from kefu.gateway.responses import Answer
from kefu.gateway.routes.sessions import DEMO_TENANT, DEMO_USERS
from kefu.settings import MAX_TEXT_CHARS, GatewaySettings

FOLDER = Path(__file__).resolve().parents[2] / "webchat"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOREVER = "public, max-age=31536000, immutable"

pages = Blueprint("pages")


@dataclass(frozen=True)
class Asset:
    """A file as it is served. `version` is a digest of its content."""

    body: bytes
    content_type: str
    version: str


def load(settings: GatewaySettings) -> Dict[str, Asset]:
    """Return the files by name; the chat page itself has the empty name. Reads the disk."""
    assets = {
        path.name: _asset(path.read_bytes(), TYPES[path.suffix]) for path in FOLDER.glob("*") if path.suffix in TYPES
    }
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    for name, asset in assets.items():
        page = page.replace(f"/static/{name}", f"/static/{name}?v={asset.version}")
    page = page.replace("{{config}}", html.escape(_config(settings)))
    assets[""] = _asset(page.encode(), "text/html; charset=utf-8")
    return assets


def _asset(body: bytes, content_type: str) -> Asset:
    return Asset(body, content_type, hashlib.sha256(body).hexdigest()[:16])


def _config(settings: GatewaySettings) -> str:
    """Return the page's configuration as JSON. It holds no secret: the site key is public."""
    tenant = settings.tenants[settings.page_tenant or next(iter(settings.tenants))]
    demo = settings.demo_login and tenant.name == DEMO_TENANT
    config = {
        "tenant": tenant.name,
        "siteKey": tenant.site_key,
        "demoUsers": DEMO_USERS if demo else [],
        "maxChars": MAX_TEXT_CHARS,
    }
    return orjson.dumps(config).decode()


@pages.get("/")
async def page(request: Request) -> HTTPResponse:
    """Return the chat page, an HTML document."""
    return _serve(request, "", "no-cache")


@pages.get("/static/<name:str>")
async def static(request: Request, name: str) -> HTTPResponse:
    """A file of the chat page. Browsers may cache it for ever, because the page names it with its version."""
    asset = request.app.ctx.assets.get(name)
    current = asset is not None and request.args.get("v") == asset.version
    return _serve(request, name, _FOREVER if current else "no-cache")


def _serve(request: Request, name: str, cache: str) -> HTTPResponse:
    """Return a file with `cache` as its Cache-Control; 304 if the browser has it, Problem 404 if there is none."""
    asset: Asset = request.app.ctx.assets.get(name)
    if asset is None:
        raise Problem("not-found")
    headers = {"Cache-Control": cache, "ETag": f'"{asset.version}"', "Content-Security-Policy": CSP}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Answer(None, 304, headers)
    return Answer(asset.body, 200, headers, asset.content_type)
