//! Where workers run: a given VPC, or a small one of the stack's own.

use serde_json::{Value, json};

use super::document::{Resource, Template, attribute, reference, sub, when};

pub(super) fn add(template: &mut Template) {
    let own = |kind, properties: Value| Resource::new(kind, properties).when("MakeVpc");
    template.resource(
        "Vpc",
        own(
            "AWS::EC2::VPC",
            json!({ "CidrBlock": "10.91.0.0/16", "EnableDnsSupport": true, "EnableDnsHostnames": true }),
        )
        .tagged(),
    );
    template.resource("Gateway", own("AWS::EC2::InternetGateway", json!({})).tagged());
    template.resource(
        "GatewayInVpc",
        own(
            "AWS::EC2::VPCGatewayAttachment",
            json!({ "VpcId": reference("Vpc"), "InternetGatewayId": reference("Gateway") }),
        ),
    );
    template.resource("Routes", own("AWS::EC2::RouteTable", json!({ "VpcId": reference("Vpc") })).tagged());
    template.resource(
        "RouteOut",
        own(
            "AWS::EC2::Route",
            json!({
                "RouteTableId": reference("Routes"),
                "DestinationCidrBlock": "0.0.0.0/0",
                "GatewayId": reference("Gateway"),
            }),
        )
        .after(&["GatewayInVpc"]),
    );
    for (index, (subnet, route)) in [("SubnetA", "RoutesA"), ("SubnetB", "RoutesB")].into_iter().enumerate() {
        template.resource(
            subnet,
            own(
                "AWS::EC2::Subnet",
                json!({
                    "VpcId": reference("Vpc"),
                    "CidrBlock": format!("10.91.{index}.0/24"),
                    "AvailabilityZone": { "Fn::Select": [index, { "Fn::GetAZs": "" }] },
                    // Tasks ask for an address themselves.
                    "MapPublicIpOnLaunch": false,
                }),
            )
            .tagged(),
        );
        template.resource(
            route,
            own(
                "AWS::EC2::SubnetRouteTableAssociation",
                json!({ "SubnetId": reference(subnet), "RouteTableId": reference("Routes") }),
            ),
        );
    }
    template.resource(
        "StorageEndpoint",
        // Envelopes and results do not travel over the internet gateway.
        own(
            "AWS::EC2::VPCEndpoint",
            json!({
                "VpcId": reference("Vpc"),
                "VpcEndpointType": "Gateway",
                "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"),
                "RouteTableIds": [reference("Routes")],
            }),
        ),
    );
    let group = json!({
        "GroupDescription": "Workers of Pangolin: nothing comes in, HTTPS goes out",
        "VpcId": when("MakeVpc", reference("Vpc"), reference("VpcId")),
        "SecurityGroupEgress": [{
            "Description": "S3, image registry, logs, and what the tasks themselves may reach",
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 443,
            "CidrIp": "0.0.0.0/0",
        }],
    });
    template.resource("WorkerGroup", Resource::new("AWS::EC2::SecurityGroup", group).tagged());
    let join = |list: Value| json!({ "Fn::Join": [",", list] });
    template.output(
        "Subnets",
        "Subnets of workers, with commas",
        when(
            "MakeVpc",
            join(json!([reference("SubnetA"), reference("SubnetB")])),
            join(reference("SubnetIds")),
        ),
    );
    template.output(
        "AssignPublicIp",
        "Whether workers get a public address",
        when("MakeVpc", json!("ENABLED"), reference("AssignPublicIp")),
    );
    template.output("SecurityGroup", "Security group of workers", attribute("WorkerGroup", "GroupId"));
}
