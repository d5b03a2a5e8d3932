"""Exchanges one web identity for one pair of keys, over TLS: port, certificate, key, token, keys."""

import http.server
import ssl
import sys
import urllib.parse

port, certificate, key, token, access_key, secret_key = sys.argv[1:]

ANSWER = f"""<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        known = asked.get("Action") == "AssumeRoleWithWebIdentity"
        good = known and asked.get("WebIdentityToken") == token and asked.get("RoleArn")
        body = (ANSWER if good else "<Error><Code>InvalidIdentityToken</Code></Error>").encode()
        self.send_response(200 if good else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
