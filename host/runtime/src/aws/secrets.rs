//! Secrets of a stack, in AWS Secrets Manager.

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use pangolin_aws::CallError;
use pangolin_stack::DeploymentDocument;

use crate::secrets::{SECRET_BYTES_MAX, SecretError, SecretRef, Secrets};

/// Secrets whose names begin with the stack's prefix. `aws-secret://<name>` is the secret `<prefix><name>`.
#[derive(Debug, Clone)]
pub struct StackSecrets {
    client: Client,
    prefix: String,
    signing_key: String,
}

impl StackSecrets {
    /// Makes no request.
    #[must_use]
    pub fn new(client: Client, document: &DeploymentDocument) -> Self {
        Self { client, prefix: document.secrets_prefix.clone(), signing_key: document.signing_key.clone() }
    }

    /// The signing key's secret. Nobody else gets it: see [`Secrets::value`].
    pub(super) async fn signing_key(&self) -> Result<String, SecretError> {
        self.read(&self.signing_key).await
    }

    /// A secret by its full name.
    async fn read(&self, name: &str) -> Result<String, SecretError> {
        let answer = self.client.get_secret_value().secret_id(name).send().await;
        let answer = answer.map_err(|error| {
            let error = CallError::new(error);
            let throttled = error.code().is_some_and(|code| code.contains("Throttl"));
            let passing = throttled || error.may_have_taken_effect() || error.status().is_none();
            SecretError::Store { name: name.to_owned(), passing, source: Box::new(error) }
        })?;
        let value = answer.secret_string.filter(|value| value.len() as u64 <= SECRET_BYTES_MAX);
        value.ok_or_else(|| SecretError::BadValue(name.to_owned()))
    }
}

#[async_trait]
impl Secrets for StackSecrets {
    async fn value(&self, reference: &SecretRef) -> Result<String, SecretError> {
        let elsewhere = |reference: String| {
            let hint =
                "put it into AWS Secrets Manager below the stack's prefix and write aws-secret://<name>";
            Err(SecretError::Elsewhere { reference, hint })
        };
        match reference {
            SecretRef::Aws(name) => match format!("{}{name}", self.prefix) {
                // Whatever its name is in this stack, and whatever the reference passed before.
                full if full == self.signing_key => Err(SecretError::Reserved(name.clone())),
                full => self.read(&full).await,
            },
            SecretRef::Variable(name) => elsewhere(format!("env://{name}")),
            SecretRef::File(path) => elsewhere(format!("file://{}", path.display())),
            SecretRef::Local(name) => elsewhere(format!("local-secret://{name}")),
        }
    }
}
