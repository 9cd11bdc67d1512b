//! Token formats that can be told by their first characters. Prefixes and lengths as the providers document them.

use pangolin_block_sdk::Level;

/// Characters of a token's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Alnum,
    /// Upper-case letters and digits 2 to 7.
    Base32,
    UpperAlnum,
    Hex,
    Base64,
    Base64Url,
    /// `Base64Url` and dots.
    Dotted,
    /// `Base64` and slashes between parts.
    Word,
}

impl Charset {
    pub(crate) const fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Base32 => matches!(byte, b'A'..=b'Z' | b'2'..=b'7'),
            Self::UpperAlnum => matches!(byte, b'A'..=b'Z' | b'0'..=b'9'),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Base64Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
            Self::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/'),
        }
    }
}

/// How the text after a prefix is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Length and randomness.
    Plain,
    /// Three parts, the second one a JSON object too.
    Jwt,
    /// This text is inside.
    Contains(&'static str),
    /// A dot at this place.
    DotAt(usize),
    /// `user:password@host` of a URL.
    UrlPassword,
}

/// A token format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) rule: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) charset: Charset,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) check: Check,
}

const OPEN: usize = 1_000;

const fn plain(rule: &'static str, prefix: &'static str, charset: Charset, min: usize, max: usize) -> Token {
    Token { rule, prefix, charset, min, max, check: Check::Plain }
}

use Charset::{Alnum, Base32, Base64, Base64Url, Dotted, Hex, UpperAlnum, Word};

pub(crate) const TOKENS: &[Token] = &[
    plain("aws-access-key", "AKIA", Base32, 16, 16),
    plain("aws-access-key", "ASIA", Base32, 16, 16),
    plain("aws-bedrock-key", "ABSK", Base64, 100, OPEN),
    plain("azure-storage-key", "AccountKey=", Base64, 80, 100),
    plain("google-api-key", "AIza", Base64Url, 35, 35),
    plain("google-oauth-secret", "GOCSPX-", Base64Url, 28, 28),
    plain("google-oauth-token", "ya29.", Base64Url, 40, OPEN),
    plain("digitalocean-token", "dop_v1_", Hex, 64, 64),
    plain("digitalocean-token", "doo_v1_", Hex, 64, 64),
    plain("databricks-token", "dapi", Hex, 32, 32),
    plain("terraform-token", ".atlasv1.", Base64Url, 60, 80),
    plain("vault-token", "hvs.", Base64Url, 24, OPEN),
    plain("vault-token", "hvb.", Base64Url, 100, OPEN),
    plain("pulumi-token", "pul-", Hex, 40, 40),
    plain("github-token", "ghp_", Alnum, 36, 255),
    plain("github-token", "gho_", Alnum, 36, 255),
    plain("github-token", "ghu_", Alnum, 36, 255),
    plain("github-token", "ghs_", Alnum, 36, 255),
    plain("github-token", "ghr_", Alnum, 36, 255),
    plain("github-token", "github_pat_", Base64Url, 60, 255),
    plain("gitlab-token", "glpat-", Dotted, 20, 300),
    plain("gitlab-token", "gldt-", Base64Url, 20, 64),
    plain("gitlab-token", "glrt-", Dotted, 20, 300),
    plain("gitlab-token", "glptt-", Hex, 40, 40),
    plain("gitlab-token", "glcbt-", Base64Url, 20, 100),
    plain("atlassian-token", "ATATT3", Base64, 100, 300),
    plain("atlassian-token", "ATBB", Alnum, 32, 32),
    plain("slack-token", "xoxb-", Base64Url, 30, OPEN),
    plain("slack-token", "xoxp-", Base64Url, 30, OPEN),
    plain("slack-token", "xoxa-", Base64Url, 30, OPEN),
    plain("slack-token", "xoxr-", Base64Url, 30, OPEN),
    plain("slack-token", "xoxs-", Base64Url, 30, OPEN),
    plain("slack-token", "xapp-1-", Base64Url, 40, OPEN),
    plain("slack-webhook", "hooks.slack.com/services/T", Word, 30, 80),
    plain("stripe-key", "sk_live_", Alnum, 20, OPEN),
    plain("stripe-key", "rk_live_", Alnum, 20, OPEN),
    plain("stripe-key", "whsec_", Base64, 32, 64),
    plain("shopify-token", "shpat_", Hex, 32, 32),
    plain("shopify-token", "shpss_", Hex, 32, 32),
    Token { rule: "sendgrid-key", prefix: "SG.", charset: Dotted, min: 66, max: 66, check: Check::DotAt(22) },
    plain("npm-token", "npm_", Alnum, 36, 36),
    plain("pypi-token", "pypi-AgEIcHlwaS5vcmc", Base64Url, 50, OPEN),
    plain("rubygems-key", "rubygems_", Hex, 48, 48),
    plain("docker-token", "dckr_pat_", Base64Url, 27, 36),
    plain("crates-io-token", "cio", Alnum, 32, 32),
    plain("anthropic-key", "sk-ant-", Base64Url, 40, OPEN),
    plain("openai-key", "sk-proj-", Base64Url, 40, OPEN),
    plain("openai-key", "sk-svcacct-", Base64Url, 40, OPEN),
    plain("openai-key", "sk-admin-", Base64Url, 40, OPEN),
    Token {
        rule: "openai-key",
        prefix: "sk-",
        charset: Alnum,
        min: 48,
        max: 48,
        check: Check::Contains("T3BlbkFJ"),
    },
    plain("model-provider-key", "sk-or-v1-", Hex, 64, 64),
    plain("model-provider-key", "gsk_", Alnum, 52, 52),
    plain("model-provider-key", "xai-", Alnum, 80, 80),
    plain("model-provider-key", "pplx-", Alnum, 48, 56),
    plain("model-provider-key", "r8_", Alnum, 37, 37),
    plain("model-provider-key", "hf_", Alnum, 34, 40),
    plain("model-provider-key", "fw_", Alnum, 22, 24),
    plain("grafana-token", "glsa_", Base64Url, 41, 41),
    plain("newrelic-key", "NRAK-", UpperAlnum, 27, 27),
    plain("linear-key", "lin_api_", Alnum, 40, 40),
    plain("doppler-token", "dp.pt.", Alnum, 40, 48),
    plain("age-secret-key", "AGE-SECRET-KEY-1", UpperAlnum, 58, 58),
    Token { rule: "jwt", prefix: "eyJ", charset: Dotted, min: 40, max: 12_000, check: Check::Jwt },
    Token {
        rule: "url-password",
        prefix: "://",
        charset: Alnum,
        min: 0,
        max: OPEN,
        check: Check::UrlPassword,
    },
];

/// Rules that are not a prefix.
const OTHERS: &[(&str, Level)] = &[
    ("private-key", Level::Deny),
    ("aws-secret-key", Level::Deny),
    ("generic-secret", Level::Deny),
    // A file that could not be read was not scanned.
    ("unreadable", Level::Deny),
];

/// Every rule with its default level; a rule can come more than once.
pub(crate) fn rules() -> impl Iterator<Item = (&'static str, Level)> {
    let level = |rule| if rule == "url-password" { Level::Warn } else { Level::Deny };
    TOKENS.iter().map(move |token| (token.rule, level(token.rule))).chain(OTHERS.iter().copied())
}

pub(crate) fn default_level(rule: &str) -> Option<Level> {
    rules().find(|known| known.0 == rule).map(|known| known.1)
}
