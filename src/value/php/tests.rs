use super::*;

fn written(form: Form, data: &[u8]) -> Result<String, Broken> {
    let mut json = Json::new(form);
    json.encode(data)
        .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn storage(data: &str) -> Result<String, Broken> {
    written(Form::Storage, data.as_bytes())
}

#[test]
fn objects_become_what_php_arrays_become() {
    for (data, expected) in [
        ("{}", "[]"),
        (r#"{"a":{},"b":[{}]}"#, r#"{"a":[],"b":[[]]}"#),
        (r#"{"0":"a","1":"b"}"#, r#"["a","b"]"#),
        (r#"{"1":"b","0":"a"}"#, r#"{"1":"b","0":"a"}"#),
        (r#"{"0":"a","2":"b"}"#, r#"{"0":"a","2":"b"}"#),
        (r#"{"00":1}"#, r#"{"00":1}"#),
        (r#"{"0":1,"0":{"0":2,"1":[3,4]}}"#, "[[2,[3,4]]]"),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
        (r#"{"a":{"b":1,"b":"x,}\""},"a":[1,2]}"#, r#"{"a":[1,2]}"#),
        (r#"{"0":"a","1":"b","1":"c"}"#, r#"["a","c"]"#),
        (r#"{"0":"a","1":"b","0":"c"}"#, r#"["c","b"]"#),
        (" [ 1 , 2 ]\n", "[1,2]"),
    ] {
        assert_eq!(storage(data).as_deref(), Ok(expected), "{data}");
    }
}

#[test]
fn many_keys_may_be_equal_too() {
    let members: Vec<String> = (0..200).map(|n| format!("\"k{}\":{n}", n % 150)).collect();
    let expected: Vec<String> = (0..150)
        .map(|n| format!("\"k{n}\":{}", if n < 50 { n + 150 } else { n }))
        .collect();
    assert_eq!(
        storage(&format!("{{{}}}", members.join(","))),
        Ok(format!("{{{}}}", expected.join(",")))
    );
}

#[test]
fn a_reason_names_the_place() {
    for (data, broken) in [
        (&b""[..], Broken::Empty),
        (b" \n", Broken::Empty),
        (b"5", Broken::Scalar),
        (b"null", Broken::Scalar),
        (b"\"text\" ", Broken::Scalar),
        (b"[1,]", Broken::Syntax(3)),
        (b"[1", Broken::Ended(2)),
        (b"{\"a\":", Broken::Ended(5)),
        (b"[tru", Broken::Ended(4)),
        (b"[tru1", Broken::Syntax(4)),
        (b"[1]x", Broken::Syntax(3)),
        (b"\xef\xbb\xbf[]", Broken::Syntax(0)),
        (b"[TRUE]", Broken::Syntax(1)),
        (b"[01]", Broken::Syntax(2)),
        (b"[\"\t\"]", Broken::Control(2)),
        (b"[\"\xff\"]", Broken::Utf8(2)),
        (b"[\"\\ud83d\"]", Broken::Surrogate(2)),
        (b"[\"\\x\"]", Broken::Syntax(3)),
        (b"[\"\\u12\"]", Broken::Syntax(4)),
    ] {
        let shown = String::from_utf8_lossy(data);
        assert_eq!(written(Form::Storage, data), Err(broken), "{shown}");
    }
}

#[test]
fn a_document_may_be_as_deep_as_php_reads() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(storage(&nested(DEEPEST)), Ok(nested(DEEPEST)));
    assert_eq!(storage(&nested(DEEPEST + 1)), Err(Broken::TooDeep(DEEPEST)));
}

#[test]
fn broken_json_that_fills_its_column_was_cut() {
    for (bytes, column) in [
        (255, Column::TinyText),
        (65_535, Column::Text),
        (16_777_215, Column::MediumText),
    ] {
        let mut data = vec![b'x'; bytes];
        data[..2].copy_from_slice(b"[\"");
        assert_eq!(written(Form::Storage, &data), Err(Broken::Cut(column)));
        data.push(b'x');
        assert_eq!(written(Form::Storage, &data), Err(Broken::Ended(bytes + 1)));
        data.truncate(bytes - 2);
        data.extend(b"\"]");
        assert!(written(Form::Storage, &data).is_ok());
    }
    assert_eq!(
        Broken::Cut(Column::Text).to_string(),
        "the value is cut at 65,535 bytes: the column is TEXT"
    );
}

#[test]
fn what_php_wrote_is_handed_on_as_it_is() {
    for data in [
        r#"{"id":17,"url":"\/de\/x","n":null,"t":[true,false],"p":9.99,"q":0.30000000000000004,"s":"gr\u00f6\u00dfe \ud83d\ude00"}"#,
        r#"{"1":"a","0":"b","e":1.0e+25,"m":-9223372036854775808,"c":"\u0001\b\"\\"}"#,
        "[]",
        "[0,-1,7,123456789012345678,-123456789012345678,9223372036854775807]",
        "[true,false,null]",
    ] {
        let mut json = Json::new(Form::Storage);
        assert!(
            std::ptr::eq(json.encode(data.as_bytes()).unwrap(), data.as_bytes()),
            "{data}"
        );
    }
    for data in [
        r#"{"s":"\u00C4"}"#,
        r#"{"a": 1}"#,
        r#"{"a":"/"}"#,
        r#"{"a":1.0}"#,
        r#"{"a":"\u0041"}"#,
        "[9223372036854775808]",
        "[123456789012345678.0]",
        "[1e3]",
        "[7E2]",
        "[-0]",
    ] {
        let mut json = Json::new(Form::Storage);
        assert_ne!(
            json.encode(data.as_bytes()).unwrap(),
            data.as_bytes(),
            "{data}"
        );
    }
}

#[test]
fn one_long_value_leaves_no_memory_behind() {
    let mut json = Json::new(Form::Storage);
    let members: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\": {n}")).collect();
    json.encode(format!("{{{}}}", members.join(",")).as_bytes())
        .unwrap();
    assert!(json.out.capacity() > KEPT && json.keys.capacity() > KEPT / 8);
    json.trim();
    assert_eq!((json.out.capacity(), json.keys.capacity()), (0, 0));
}
