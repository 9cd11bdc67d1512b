//! How long it takes from nothing to clients that could send. One line of JSON on stdout; times in microseconds.
//!
//! `cargo run -p pangolin-aws --example cold_start`, with `AWS_REGION` set. Nothing is sent.

use std::time::Instant;

use pangolin_aws::{Aws, AwsConfig, Service};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let aws = Aws::open(AwsConfig::default()).await?;
    let opened = begin.elapsed();
    let config = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let made = begin.elapsed();
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!(
            "{{\"open_us\":{},\"client_us\":{},\"region\":{:?}}}",
            opened.as_micros(),
            (made - opened).as_micros(),
            client.config().region().map(AsRef::<str>::as_ref)
        );
    }
    Ok(())
}
