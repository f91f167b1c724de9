"""Deployments: what is live, and changing it.

The current set carries an ETag; a change that names it in If-Match is refused when someone else was faster (RFC 9110,
section 13.1.1). Promotion waits until members hold the release, so the answer to PUT means that it is live.
"""

import re
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from discovery.promotion import promote
from gateway.context import Context
from gateway.control import reading
from gateway.control.answers import DeploymentsJson, FlipJson
from gateway.control.bodies import DeploymentsBody
from gateway.control.groups import find
from gateway.control.operation import BODY_PROBLEMS, GROUP, Answer, Operation, Parameter, Payload
from gateway.control.replies import reply
from gateway.control.shapes import deployments_json
from gateway.errors import ParameterInvalidError
from registry.deployments import DeploymentSet, Flip, get_deployments
from registry.groups import get_group
from registry.records import Deployment

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST: Final = re.compile(rf"\s*{_TAG.pattern}\s*(?:,\s*{_TAG.pattern}\s*)*")


async def show(context: Context, request: Request) -> Response:
    """Show the deployments of a group."""
    name = reading.group_name(request)
    reading.options(request)
    current = await context.run(_current, context, name)
    answer = DeploymentsJson(deployments=deployments_json(current.deployments))
    return reply(answer, headers={"etag": f'"{current.etag}"'})


def _current(context: Context, name: str) -> DeploymentSet:
    with context.database.read() as conn:
        return get_deployments(conn, get_group(conn, name))


async def change(context: Context, request: Request) -> Response:
    """Change the deployments of a group: promote, or roll back."""
    name = reading.group_name(request)
    reading.options(request)
    await find(context, name)
    given_tags = _if_match(request)
    body = await reading.read_json(request, DeploymentsBody, context.settings.json_body_bytes)
    wanted = {slot: Deployment(slot, item.release, item.traffic) for slot, item in body.root.items()}
    flip, current = await context.run(_change, context, name, wanted, given_tags)
    answer = FlipJson(deployments=deployments_json(current.deployments), kind=flip.kind, withdrawn=flip.withdrawn)
    return reply(answer, headers={"etag": f'"{current.etag}"'})


def _change(
    context: Context, name: str, wanted: Mapping[str, Deployment], given_tags: tuple[str, ...]
) -> tuple[Flip, DeploymentSet]:
    current = _current(context, name)
    # Of several tags the one that matches now is the one to hold on to; if none does, any of them fails the flip.
    if_match = next((tag for tag in given_tags if tag == current.etag), given_tags[0]) if given_tags else None
    flip = promote(
        context.database,
        context.membership,
        context.store,
        name,
        wanted,
        if_match=if_match,
        author="",
        deadline_seconds=context.settings.promote_seconds,
    )
    context.watcher.refresh()
    return flip, _current(context, name)


def _if_match(request: Request) -> tuple[str, ...]:
    """The entity tags of If-Match without quotes; empty for none and for `*`. A weak tag matches nothing."""
    text = ",".join(request.headers.getlist("if-match")).strip()
    if not text or text == "*":
        return ()
    if not _LIST.fullmatch(text):
        raise ParameterInvalidError('If-Match is a list of quoted entity tags, e.g. "3", or *', field="if-match")
    return tuple(tag if tag.startswith("W/") else tag[1:-1] for tag in _TAG.findall(text))


_IF_MATCH: Final = Parameter(
    "if-match", "header", "the ETag of the deployments this change was decided on", {"type": "string"}
)
_ETAG: Final = {"etag": "names this state of the deployments, for If-Match"}

OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/groups/{group}/deployments",
        "getDeployments",
        "deployments",
        "Show what is live",
        (Answer(200, "deployments by name", DeploymentsJson, headers=_ETAG),),
        show,
        parameters=(GROUP,),
        problems=("group_not_found",),
    ),
    Operation(
        "PUT",
        "/v1/groups/{group}/deployments",
        "putDeployments",
        "deployments",
        "Promote a release, or roll back to one",
        (Answer(200, "the deployments as they now are", FlipJson, headers=_ETAG),),
        change,
        description="The release is prepared on all members first; without that in time the change is refused and the"
        " old release goes on. A lower number than the live one is a rollback: it withdraws what the abandoned release"
        " introduced and suspends auto_release until the next promotion.",
        parameters=(GROUP, _IF_MATCH),
        payload=Payload("all deployments by name", DeploymentsBody, example={"blue": {"release": 4, "traffic": 100}}),
        problems=(
            "group_not_found",
            "release_not_found",
            "release_state",
            "deployment_invalid",
            "promotion_refused",
            "precondition_failed",
            *BODY_PROBLEMS,
        ),
    ),
)
