//! Compares a document with its published schema: the few words of JSON Schema that ours use, walked by hand.

use serde_json::Value;

/// Fails with every place where `document` and `schema` disagree.
pub fn assert_valid(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("a schema is JSON");
    let mut complaints = Vec::new();
    walk(&schema, &schema, document, "$", &mut complaints);
    assert!(complaints.is_empty(), "{}\n{document:#}", complaints.join("\n"));
}

fn walk(root: &Value, schema: &Value, value: &Value, at: &str, complaints: &mut Vec<String>) {
    // A document within a document of the same kind.
    let schema = if schema["$ref"] == "#" { root } else { schema };
    const KNOWN: [&str; 12] = [
        "$schema",
        "$id",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "pattern",
    ];
    for word in schema.as_object().expect("a schema is an object").keys() {
        assert!(KNOWN.contains(&word.as_str()), "{at}: the walker does not know {word}");
    }
    let whole_number = kind(value) == "integer" && types(schema).contains(&"number");
    if !types(schema).contains(&kind(value)) && !whole_number {
        complaints.push(format!("{at}: {} where {:?} is due", kind(value), types(schema)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        complaints.push(format!("{at}: {value} is not one of {allowed:?}"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        complaints.push(format!("{at}: {value} is not {}", schema["const"]));
    }
    if let Some(object) = value.as_object() {
        members(root, schema, object, at, complaints);
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        walk(root, &schema["items"], item, &format!("{at}[{index}]"), complaints);
    }
}

/// Documents and schemas name the same keys: one that the schema does not know is as wrong as one that is missing.
fn members(root: &Value, schema: &Value, object: &serde_json::Map<String, Value>, at: &str, complaints: &mut Vec<String>) {
    let properties = schema["properties"].as_object().unwrap_or_else(|| panic!("{at}: the schema has no properties"));
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for key in &required {
        assert!(properties.contains_key(*key), "{at}: {key} is required and not described");
        if !object.contains_key(*key) {
            complaints.push(format!("{at}: {key} is missing"));
        }
    }
    for (key, value) in object {
        match properties.get(key) {
            Some(property) => walk(root, property, value, &format!("{at}.{key}"), complaints),
            None => complaints.push(format!("{at}: {key} is not described")),
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        other => panic!("a schema without type: {other}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn disagreement_is_found() {
    let schema: Value = serde_json::from_str(
        r#"{"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer", "const": 1}, "b": {"type": "array", "items": {"type": ["string", "null"], "enum": ["x", null]}}}}"#,
    )
    .unwrap();
    let complain = |document: &str| {
        let mut complaints = Vec::new();
        walk(&schema, &schema, &serde_json::from_str(document).unwrap(), "$", &mut complaints);
        complaints.len()
    };
    assert_eq!(complain(r#"{"a": 1, "b": ["x", null]}"#), 0);
    for wrong in
        [r#"{"a": 1}"#, r#"{"a": 2, "b": []}"#, r#"{"a": "1", "b": []}"#, r#"{"a": 1, "b": [3]}"#, r#"{"a": 1, "b": [], "c": 1}"#, "[]"]
    {
        assert_eq!(complain(wrong), 1, "{wrong}");
    }
    assert_eq!(complain(r#"{"a": 1.5, "b": ["y"]}"#), 2);
}
