"""The token endpoint, where stackyard is its own issuer."""

from stackyard.auth.access import Access
from stackyard.auth.issuer import MAX_BODY, TokenRequest
from stackyard.http.answer import Answer
from stackyard.http.request import Request
from stackyard.oci.errors import BadRequest, Unsupported

PATH = "/auth/token"


async def issue(access: Access, request: Request) -> Answer:
    """200 with a token for what was asked and is allowed."""
    method = request.scope["method"]
    authorization, address = request.header(b"authorization"), request.address
    if method == "GET":
        query = request.scope["query_string"]
        asked = TokenRequest.get(query, authorization=authorization, address=address)
    elif method == "POST":
        form = await request.read(MAX_BODY, BadRequest)
        asked = TokenRequest.post(form, authorization=authorization, address=address)
    else:
        raise Unsupported(headers={"Allow": "GET, POST"})
    answer = await access.token(asked)
    # RFC 6749, 5.1: a token is never to be kept by a cache.
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Answer(200, headers, answer.body())
