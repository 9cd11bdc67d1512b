import os
import hashlib

SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "PASSWORD": os.getenv("DB_PASSWORD", ""),
        "URL": "postgres://app:password@localhost:5432/app",
        "REPLICA": f"postgres://app:{os.environ['DB_PASSWORD']}@db.internal:5432/app",
        "DOCS": "mysql://user:correct-horse@db.example.com/app",
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
token_url = "https://auth.example.com/realms/main/protocol/openid-connect/token"
# Documented sample values
AWS_ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
AWS_SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
api_key = "YOUR_API_KEY_HERE_1234567890"
password = "<your password here>"
client_secret = "${CLIENT_SECRET_2FA4}"
FIXTURE_PASSWORD = "hunter2"
token_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
password_hash = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b27"


def check(password: str, token: str = "") -> bool:
    digest = hashlib.sha256(password.encode()).hexdigest()
    return token == "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8" and bool(digest)
