//! Tokens, keys and passwords by name only.
use std::env;

const PEM_HEADER: &str = "-----BEGIN PRIVATE KEY-----";
const TOKEN_PREFIXES: &[&str] = &["ghp_", "gho_", "sk-ant-", "AKIA", "xoxb-"];
const API_KEY_HEADER: &str = "x-api-key";
const SECRET_NAME: &str = "projects/acme/secrets/db-password/versions/latest";
const PASSWORD_RESET_PATH: &str = "/account/password/reset/confirm2fa";
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

pub struct Config {
    pub api_key: String,
    pub token: Option<String>,
    pub password: &'static str,
}

impl Config {
    pub fn from_env() -> Self {
        let api_key = env::var("ACME_API_KEY").expect("ACME_API_KEY");
        let token = env::var("GITHUB_TOKEN").ok();
        let next_page_token = "CAESBgoEbmFtZRIKbmV4dC1wYWdlMg";
        assert_ne!(token.as_deref(), Some(next_page_token));
        Self { api_key, token, password: "changeme-changeme-1234" }
    }
}

fn is_key(text: &str) -> bool {
    text.contains("-----BEGIN RSA PRIVATE KEY-----") && text.contains("-----END RSA PRIVATE KEY-----")
}

fn cipher() -> &'static str {
    // token = tokenizer.next(); secret: see the vault
    let key = "aes-256-gcm-hkdf-sha256-v2";
    let cache_key = "user:profile:v2:8f14e45fceea167a5a36dedd4bea2543";
    let token_type = "urn:ietf:params:oauth:token-type:access_token2";
    if is_key(cache_key) { key } else { token_type }
}
