//! From configuration to something that clients can be made of.

use std::time::Duration;

use aws_config::{profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{
    SdkConfig,
    origin::Origin,
    os_shim_internal::{Env, Fs},
    service_config::ServiceConfigKey,
};
use thiserror::Error;

use crate::{
    config::{AwsConfig, ConfigError, Service},
    http,
};

/// Why there is no configuration to make clients of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The configuration itself is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No region anywhere.
    #[error("no AWS region is known: set AWS_REGION, add one to the profile{}, or give --region where a verb has it", in_profile(.0))]
    NoRegion(Option<String>),
    /// The profile that was asked for.
    #[error(
        "there is no profile {0:?} in ~/.aws/config and ~/.aws/credentials (or the files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name)"
    )]
    NoProfile(String),
}

fn in_profile(profile: &Option<String>) -> String {
    profile.as_ref().map_or_else(String::new, |name| format!(" {name:?}"))
}

/// Whether the files have a profile. Of files that cannot be read the credentials' provider says why.
async fn has_profile(name: &str) -> bool {
    let loaded = aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None).await;
    loaded.map_or(true, |profiles| profiles.get_profile(name).is_some())
}

/// A shared configuration for the clients of all services: region, credentials, endpoints, HTTP, retries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Aws {
    config: AwsConfig,
    sdk: SdkConfig,
}

impl Aws {
    /// Resolves what `config` leaves open from the environment and the profile files. Makes no request: credentials are
    /// looked for with the first call.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: AwsConfig) -> Result<Self, OpenError> {
        Self::open_with(config, http::client()).await
    }

    /// As [`Aws::open`], with an HTTP client around or instead of the ordinary one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_with(config: AwsConfig, http: SharedHttpClient) -> Result<Self, OpenError> {
        config.check()?;
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(http.clone())
            .retry_config(retries(&config))
            .timeout_config(timeouts(&config));
        let region = config.region.clone().map(aws_types::region::Region::new);
        if let Some(region) = &region {
            loader = loader.region(region.clone());
        }
        if let Some(profile) = &config.profile {
            if !has_profile(profile).await {
                return Err(OpenError::NoProfile(profile.clone()));
            }
            // A profile that was asked for by name is the one, whatever keys the environment has.
            let provider = ProviderConfig::without_region().with_http_client(http).with_region(region);
            let credentials = ProfileFileCredentialsProvider::builder().profile_name(profile);
            loader =
                loader.profile_name(profile).credentials_provider(credentials.configure(&provider).build());
        }
        let sdk = loader.load().await;
        if sdk.region().is_none() {
            return Err(OpenError::NoRegion(config.profile));
        }
        Ok(Self { config, sdk })
    }

    /// For tests: one endpoint for everything, a fixed region and fixed credentials, short retries, and nothing from the
    /// environment. `http` is [`Aws::http`] or something around it.
    ///
    /// # Errors
    /// [`OpenError::Config`] when the endpoint is no URL.
    #[cfg(feature = "faults")]
    pub fn for_tests(endpoint_url: &str, attempts: u32, http: SharedHttpClient) -> Result<Self, OpenError> {
        use aws_types::sdk_config::{Builder, SharedCredentialsProvider};
        let config = AwsConfig {
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(endpoint_url.to_owned()),
            retries: crate::Retries { attempts, first_pause_ms: 1, max_pause_ms: 5 },
            ..AwsConfig::default()
        };
        config.check()?;
        // What emulators take; AWS itself refuses them.
        let credentials = aws_credential_types::Credentials::new("test", "test", None, None, "tests");
        let sdk = Builder::default()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_types::region::Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .identity_cache(aws_config::identity::IdentityCache::lazy().build())
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .http_client(http)
            .retry_config(retries(&config))
            .timeout_config(timeouts(&config))
            .build();
        Ok(Self { config, sdk })
    }

    /// For tests: one service somewhere else.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn with_endpoint(mut self, service: Service, url: &str) -> Self {
        self.config.endpoints.insert(service, url.to_owned());
        self
    }

    /// The ordinary HTTP client, to be wrapped in tests.
    #[must_use]
    pub fn http() -> SharedHttpClient {
        http::client()
    }

    /// What the client of a service is made of: `aws_sdk_s3::Client::new(&aws.sdk(Service::S3))`.
    #[must_use]
    pub fn sdk(&self, service: Service) -> SdkConfig {
        match self.config.endpoint(service) {
            Some(url) => {
                let mut sdk = self.sdk.to_builder();
                sdk.set_endpoint_url(Some(url.to_owned()));
                // Otherwise clients take the environment's for the more specific one.
                sdk.insert_origin("endpoint_url", Origin::shared_config());
                sdk.build()
            }
            None => self.sdk.clone(),
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.sdk.region().map_or("", AsRef::as_ref)
    }

    /// The endpoint that replaces the one of AWS, from the configuration or the environment.
    #[must_use]
    pub fn endpoint(&self, service: Service) -> Option<String> {
        if let Some(url) = self.config.endpoint(service) {
            return Some(url.to_owned());
        }
        let key = ServiceConfigKey::builder()
            .service_id(service.id())
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        let own = self.sdk.service_config().and_then(|config| config.load_config(key));
        own.or_else(|| self.sdk.endpoint_url().map(str::to_owned))
    }

    /// Whether S3 clients put the bucket into the path of the URL. See [`AwsConfig::path_style`].
    #[must_use]
    pub fn path_style(&self) -> bool {
        self.config.path_style.unwrap_or_else(|| self.endpoint(Service::S3).is_some())
    }

    /// The configuration as given.
    #[must_use]
    pub fn config(&self) -> &AwsConfig {
        &self.config
    }
}

fn retries(config: &AwsConfig) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(config.retries.attempts)
        .with_initial_backoff(Duration::from_millis(config.retries.first_pause_ms))
        .with_max_backoff(Duration::from_millis(config.retries.max_pause_ms))
}

fn timeouts(config: &AwsConfig) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(config.timeouts.connect_ms))
        .read_timeout(Duration::from_millis(config.timeouts.read_ms))
        .build()
}
