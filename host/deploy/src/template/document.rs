//! A template under construction.

use serde_json::{Map, Value, json};

use super::rights::Grant;

/// A CloudFormation template. Sections and resources keep the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Template {
    description: String,
    parameters: Map<String, Value>,
    conditions: Map<String, Value>,
    resources: Map<String, Value>,
    outputs: Map<String, Value>,
    grants: Vec<Grant>,
}

impl Template {
    pub(super) fn new(description: &str) -> Self {
        Self { description: description.to_owned(), ..Self::default() }
    }

    pub(super) fn parameter(&mut self, name: &str, value: Value) {
        self.parameters.insert(name.to_owned(), value);
    }

    pub(super) fn condition(&mut self, name: &str, value: Value) {
        self.conditions.insert(name.to_owned(), value);
    }

    /// Adds a resource and gives it the tags of the stack when its type takes a list of them.
    pub(super) fn resource(&mut self, id: &str, resource: Resource) {
        self.resources.insert(id.to_owned(), resource.into_json());
    }

    pub(super) fn output(&mut self, name: &str, description: &str, value: Value) {
        self.outputs.insert(name.to_owned(), json!({ "Description": description, "Value": value }));
    }

    pub(super) fn output_if(&mut self, condition: &str, name: &str, description: &str, value: Value) {
        let output = json!({ "Condition": condition, "Description": description, "Value": value });
        self.outputs.insert(name.to_owned(), output);
    }

    pub(super) fn grant(&mut self, grant: Grant) {
        self.grants.push(grant);
    }

    /// What each role may do, with the reasons.
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The resource with this logical id, as JSON.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Value> {
        self.resources.get(id)
    }

    /// Names of the parameters.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.keys().map(String::as_str)
    }

    /// The whole template.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": self.description,
            "Parameters": self.parameters,
            "Conditions": self.conditions,
            "Resources": self.resources,
            "Outputs": self.outputs,
        })
    }
}

/// A resource under construction.
#[derive(Debug)]
pub(super) struct Resource {
    kind: &'static str,
    properties: Value,
    condition: Option<&'static str>,
    depends_on: Vec<&'static str>,
    keep: bool,
}

impl Resource {
    pub(super) fn new(kind: &'static str, properties: Value) -> Self {
        Self { kind, properties, condition: None, depends_on: Vec::new(), keep: false }
    }

    pub(super) fn when(mut self, condition: &'static str) -> Self {
        self.condition = Some(condition);
        self
    }

    pub(super) fn after(mut self, ids: &[&'static str]) -> Self {
        self.depends_on.extend(ids);
        self
    }

    /// Stays when the stack is deleted or the resource replaced.
    pub(super) fn kept(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Adds the tag that says which stack it belongs to. Only for types that take `Tags` as a list.
    pub(super) fn tagged(mut self) -> Self {
        if let Some(properties) = self.properties.as_object_mut() {
            properties.insert("Tags".to_owned(), tags());
        }
        self
    }

    fn into_json(self) -> Value {
        let mut map = Map::new();
        map.insert("Type".to_owned(), json!(self.kind));
        if let Some(condition) = self.condition {
            map.insert("Condition".to_owned(), json!(condition));
        }
        if !self.depends_on.is_empty() {
            map.insert("DependsOn".to_owned(), json!(self.depends_on));
        }
        if self.keep {
            map.insert("DeletionPolicy".to_owned(), json!("Retain"));
            map.insert("UpdateReplacePolicy".to_owned(), json!("Retain"));
        }
        map.insert("Properties".to_owned(), self.properties);
        Value::Object(map)
    }
}

fn tags() -> Value {
    json!([{ "Key": "pangolin:stack", "Value": reference("AWS::StackName") }])
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "Ref": name })
}

pub(super) fn sub(text: &str) -> Value {
    json!({ "Fn::Sub": text })
}

pub(super) fn attribute(id: &str, name: &str) -> Value {
    json!({ "Fn::GetAtt": [id, name] })
}

pub(super) fn when(condition: &str, then: Value, otherwise: Value) -> Value {
    json!({ "Fn::If": [condition, then, otherwise] })
}

pub(super) fn nothing() -> Value {
    reference("AWS::NoValue")
}
