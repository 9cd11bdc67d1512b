//! The deployment's signing key: made once, kept in Secrets Manager, readable by the tick only.

use std::fmt::Write as _;

use aws_sdk_secretsmanager::{Client, types::Tag};
use pangolin_audit::note::SigningKey;
use pangolin_aws::CallError;
use pangolin_stack::names;
use serde_json::{Value, json};

use crate::DeployError;

/// Name of the secret.
pub(crate) fn secret_name(prefix: &str) -> String {
    format!("{prefix}{}", names::SIGNING_KEY)
}

/// What the secret's description says before the public key. The secret itself cannot be read by whoever deploys.
const DESCRIBED_AS: &str = "Pangolin signing key; verifier key: ";

/// Who may read the secret: nobody but the tick, whatever rights they have. Rights to change this policy are rights to read.
pub(crate) fn policy(tick_role: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "OnlyTheTick",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "*",
            "Condition": { "ArnNotEquals": { "aws:PrincipalArn": tick_role } },
        }],
    })
}

/// Makes the key unless there is one, protects it, and returns the verifier key.
pub(crate) async fn ensure(
    client: &Client,
    stack: &str,
    prefix: &str,
    tick_role: &str,
) -> Result<(String, bool), DeployError> {
    let name = secret_name(prefix);
    let failed = |doing: &str| DeployError::call(format!("{doing} secret {name}"));
    let mut made = false;
    let verifier = match verifier_key(client, &name).await? {
        Some(verifier) => verifier,
        None => {
            let (value, verifier) = generate(stack)?;
            let request = client
                .create_secret()
                .name(&name)
                .description(format!("{DESCRIBED_AS}{verifier}"))
                .secret_string(value)
                .tags(Tag::builder().key("pangolin:stack").value(stack).build());
            match request.send().await.map_err(CallError::new) {
                Ok(_) => {
                    made = true;
                    verifier
                }
                // Somebody else applies at the same time, or the answer to the first try was lost.
                Err(error) if error.code() == Some("ResourceExistsException") => {
                    verifier_key(client, &name).await?.ok_or_else(|| {
                        DeployError::Unexpected(format!("secret {name} exists and cannot be described"))
                    })?
                }
                Err(error) => return Err(failed("creating")(error)),
            }
        }
    };
    let request = client
        .put_resource_policy()
        .secret_id(&name)
        .resource_policy(policy(tick_role).to_string())
        .block_public_policy(true);
    request.send().await.map_err(CallError::new).map_err(failed("protecting"))?;
    Ok((verifier, made))
}

/// The verifier key in the description of the secret; `None` without a secret.
pub(crate) async fn verifier_key(client: &Client, name: &str) -> Result<Option<String>, DeployError> {
    let answer = match client.describe_secret().secret_id(name).send().await.map_err(CallError::new) {
        Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
        other => other.map_err(DeployError::call(format!("describing secret {name}")))?,
    };
    if answer.deleted_date().is_some() {
        return Err(DeployError::Refused(format!(
            "secret {name} with the signing key is marked for deletion; records signed with it would lose their key. Restore it"
        )));
    }
    let described = answer.description().and_then(|text| text.strip_prefix(DESCRIBED_AS));
    described.map(|key| Some(key.to_owned())).ok_or_else(|| {
        DeployError::Unexpected(format!(
            "secret {name} does not say its verifier key; it was not made by this program"
        ))
    })
}

/// The value of the secret and the verifier key.
fn generate(namespace: &str) -> Result<(String, String), DeployError> {
    let mut random = [0u8; 40];
    getrandom::fill(&mut random)
        .map_err(|error| DeployError::Unexpected(format!("the system gives no random bytes: {error}")))?;
    let (tag, seed) = random.split_at(8);
    let seed: [u8; 32] = seed.try_into().unwrap_or_default();
    // The form of the file `keys/deployment.key` of a local deployment.
    let name = format!("pangolin.{namespace}/{}", hex(tag));
    let key = SigningKey::from_seed(&name, &seed)
        .map_err(|error| DeployError::Unexpected(format!("the origin {name} cannot name a key: {error}")))?;
    Ok((json!({ "name": name, "seed": hex(&seed) }).to_string(), key.verifier_key().to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
