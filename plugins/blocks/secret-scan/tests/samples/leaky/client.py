import requests

GITHUB = "ghp_@@b7Kq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB" <-- github-token
gitlab = 'glpat-@@Zx9Kq2VbT7mLrR4cWn8P' <-- gitlab-token
client = Anthropic(api_key="sk-ant-@@api03-k9Qm2XvB7nT1pL8wZ3cR6hJ5gF0sYuEa4dVtKbMxNq7PwLr2CzHj8GyTfWs") <-- anthropic-key
openai_key = "sk-proj-@@k9Qm2XvB7nT1pL8wZ3cR6hJ5gF0sYuEa4dVtKbMxNq7PwLr2Cz" <-- openai-key
requests.get(URL, headers={"Authorization": "Bearer v7Kq2@@VxT9mLzR4cWn8PdYf3HsJ6g"}) <-- generic-secret
config = {"client_secret": "Kq2VxT9@@mLzR4cWn8PdYf3HsJ"} <-- generic-secret
session.auth_token: str = "p9Xw3@@Lk7Vb2Nq8Rt5Zc" <-- generic-secret
token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjIifQ.@@eyJpc3MiOiJodHRwczovL2FjbWUiLCJzdWIiOiJib2IifQ.Kq2VxT9mLzR4cWn8PdYf3HsJ6gQe1AuXoB" <-- jwt
hook = "https://hooks.slack.com/services/@@T03K9QM2XVB/B07NT1PL8WZ/3cR6hJ5gF0sYuEa4dVtKbMxN" <-- slack-webhook
