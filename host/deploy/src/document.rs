//! The deployment document of a stack, from what CloudFormation says about it.

use pangolin_stack::{AnchorPlace, Architecture, DeploymentDocument, SCHEMA_VERSION, Workers};

use crate::{DeployError, deployer::project_of, stack::Described};

/// The document of a stack.
pub(crate) fn of(
    stack: &str,
    region: &str,
    described: &Described,
    verifier_key: &str,
) -> Result<DeploymentDocument, DeployError> {
    let text = |name| described.output(name).map(str::to_owned);
    let retention_days = described.output("AnchorRetentionDays")?.parse().map_err(|error| {
        DeployError::Unexpected(format!("output AnchorRetentionDays of stack {stack} is no number: {error}"))
    })?;
    let secrets_prefix = text("SecretsPrefix")?;
    let x86 = described.parameters.get("Architecture").is_some_and(|it| it == Architecture::X86_64.as_str());
    Ok(DeploymentDocument {
        schema_version: SCHEMA_VERSION,
        stack: stack.to_owned(),
        region: region.to_owned(),
        table: text("TableName")?,
        data_bucket: text("DataBucket")?,
        project: project_of(described),
        anchor: AnchorPlace { bucket: text("AnchorBucket")?, retention_days },
        doorbell_url: text("DoorbellUrl")?,
        workers: Workers {
            cluster: text("ClusterArn")?,
            architecture: if x86 { Architecture::X86_64 } else { Architecture::Arm64 },
            subnets: described.output("Subnets")?.split(',').map(str::to_owned).collect(),
            security_groups: vec![text("SecurityGroup")?],
            assign_public_ip: described.output("AssignPublicIp")? == "ENABLED",
            family_prefix: crate::names::task_family_prefix(stack),
            task_role_arn: text("TaskRoleArn")?,
            execution_role_arn: text("ExecutionRoleArn")?,
            log_group: text("WorkerLogGroup")?,
        },
        signing_key: crate::key::secret_name(&secrets_prefix),
        secrets_prefix,
        verifier_key: verifier_key.to_owned(),
    })
}
