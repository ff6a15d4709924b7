"""GitLab as a runner knows it: it gives each job its token, and says who started it."""

from world import SECRET, Provider

API = {"token": {"file": "secret"}}


class GitLab:
    """The provider fixture, where ines is in acme/release and bob is in no group of acme."""

    def __init__(self):
        self.provider = Provider(API_TOKEN=SECRET)
        self.issuer = self.provider.issuer
        self.provider.admin("user", {"user": "ines", "memberships": {"acme/release": "developer"}})

    def token(self, audience, **differs):
        """The ID token of a job of acme/shop/api on its protected branch main, but for what differs."""
        usual = {"aud": audience, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"}
        return self.provider.admin("ci-token", {**usual, **differs})["token"]

    def settings(self, audience):
        """What a gateway is configured with that takes jobs by this audience, as the token issuer `ci`."""
        provider = {
            "name": "gitlab",
            "kind": "gitlab",
            "issuer": self.issuer,
            "client_id": "vestibule",
            "client_secret": {"file": "secret"},
            "membership": {"refresh": "1s", "api": API},
        }
        issuer = {"name": "ci", "kind": "gitlab_ci", "provider": "gitlab", "audiences": [audience]}
        return {"providers": [provider], "token_issuers": [issuer]}
