//! Files as people have them, and any file at all.

use proptest::prelude::*;

use super::*;

fn replaced(text: &str, format: FileFormat, key: &str, value: &str) -> Result<String, String> {
    let span = find(text, format, key)?;
    let value = written(&text[span.clone()], value);
    Ok(put(text, vec![(span, value)]))
}

#[test]
fn one_value_is_replaced_and_all_else_stays_to_the_letter() {
    let (json, toml, ini) = (FileFormat::Json, FileFormat::Toml, FileFormat::Ini);
    for (format, key, before, after) in [
        // DataJoint 0.14's dj_local_conf.json.
        (
            json,
            "database.host",
            "{\n    \"database.host\": \"old\",\n    \"database.port\": 3306,\n    \"x\": 1.0e5\n}\n",
            "{\n    \"database.host\": \"new\",\n    \"database.port\": 3306,\n    \"x\": 1.0e5\n}\n",
        ),
        // DataJoint 2's datajoint.json.
        (
            json,
            "database.host",
            "{\"database\":{\"port\":3306,\"host\" : \"old\"},\"host\":\"{\\\"host\\\":1}\"}",
            "{\"database\":{\"port\":3306,\"host\" : \"new\"},\"host\":\"{\\\"host\\\":1}\"}",
        ),
        (
            json,
            "a.b.c",
            "{\"a.b\": {\"c\": null}, \"d\": [{\"c\": 1}]}",
            "{\"a.b\": {\"c\": new}, \"d\": [{\"c\": 1}]}",
        ),
        (
            json,
            "h",
            "{\"\\u0068\": \"old\"}",
            "{\"\\u0068\": \"new\"}",
        ),
        (
            toml,
            "db.host",
            "# host\n[db] # db\nhost  =  'old' # was\nport=1\n",
            "# host\n[db] # db\nhost  =  'new' # was\nport=1\n",
        ),
        (
            toml,
            "db.host",
            "db.host = \"old\"\r\n",
            "db.host = \"new\"\r\n",
        ),
        (
            toml,
            "db.host",
            "\"db.host\" = \"old\"\n",
            "\"db.host\" = \"new\"\n",
        ),
        (
            ini,
            "client.host",
            "[other]\nhost=a\n[client]\n# host=b\nhost = old  # it\n",
            "[other]\nhost=a\n[client]\n# host=b\nhost = new  # it\n",
        ),
        (
            ini,
            "client.host",
            "[client]\r\nhost: \"old\" ; it\r\n",
            "[client]\r\nhost: \"new\" ; it\r\n",
        ),
        (ini, "host", "host=\n", "host=new\n"),
        (ini, "a.b.c", "[a.b]\nc=old", "[a.b]\nc=new"),
    ] {
        assert_eq!(replaced(before, format, key, "new").as_deref(), Ok(after));
    }
}

#[test]
fn what_isn_t_clear_is_refused() {
    let (json, toml, ini) = (FileFormat::Json, FileFormat::Toml, FileFormat::Ini);
    for (format, text, expected) in [
        (json, "{\"a\": {\"x\": 1}}", "there is no key a.b"),
        (json, "{\"a.b\": {}}", "there is no key a.b"),
        (
            json,
            "{\"a.b\": 1, \"a\": {\"b\": 2}}",
            "the key a.b stands there 2 times",
        ),
        (
            json,
            "{\"a.b\": 1, \"a.b\": 2}",
            "the key a.b stands there 2 times",
        ),
        (json, "[1]", "there is no key a.b"),
        (
            toml,
            "a.b = 1\n\"a.b\" = 2\n",
            "the key a.b stands there 2 times",
        ),
        (toml, "[[a]]\nb = 1\n", "there is no key a.b"),
        (
            ini,
            "[a]\nb=1\n[a]\nb=2\n",
            "the key a.b stands there 2 times",
        ),
        (ini, "[a]\nbb=1\n", "there is no key a.b"),
    ] {
        assert_eq!(find(text, format, "a.b").unwrap_err(), expected, "{text}");
    }
    assert!(
        find("{", json, "a")
            .unwrap_err()
            .starts_with("it is no JSON")
    );
    assert!(
        find("a", toml, "a")
            .unwrap_err()
            .starts_with("it is no TOML")
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c.\"\\\\é]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn in_any_json_only_that_value_changes(mut value in any_json(), old in ".{0,8}", pretty: bool) {
        prop_assume!(value.is_object());
        value["the"] = serde_json::json!({"key": old, "b": 2});
        let text = match pretty {
            true => serde_json::to_string_pretty(&value).unwrap(),
            false => value.to_string(),
        };
        let after = replaced(&text, FileFormat::Json, "the.key", "new").unwrap();
        value["the"]["key"] = "new".into();
        prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), value);
    }

    #[test]
    fn no_text_is_a_panic(text in "[\\[\\]{}\"'=:,.#;ab\\\\ \n\té0]{0,40}", key in "[ab.]{0,4}") {
        for format in [FileFormat::Json, FileFormat::Toml, FileFormat::Ini] {
            if let Ok(span) = find(&text, format, &key) {
                let old = text[span.clone()].to_owned();
                let there = put(&text, vec![(span.clone(), "x".to_owned())]);
                prop_assert_eq!(put(&there, vec![(span.start..span.start + 1, old)]), text.clone());
            }
        }
    }
}
