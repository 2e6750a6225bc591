"""HTTP as remotes speak it: connections, redirects, credentials, answers that can be believed.

access       how the user wants an origin to be reached, and as whom: options
exchange     one request with its redirects, as far as the head of the answer
routes       what leads to an origin
transport    connections of HTTP/1.1: connection, heads; of HTTP/2: http2, streams
wire         sending and receiving, and TLS, on a thread of their own; trust: whom to trust
auth         credentials of one origin; netrc_file
files        files at URLs, and how kinds of origins differ
parts        bodies; promises: digests of them that an origin states
answers      what the head of an answer says
places       URLs for messages, and where redirects lead; failures: httpx's errors in our words
"""
