//! RunStore on one DynamoDB table.
