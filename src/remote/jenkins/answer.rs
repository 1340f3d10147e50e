//! What a Jenkins answers, read without trusting more of it than is needed.

use serde_json::Value;

/// A build that was found by its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It waits in the queue. Why, as Jenkins says.
    Queued(String),
    /// It was begun.
    Build(Build),
}

/// A build that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its number within the job.
    pub number: u64,
    /// How it ended; `None` while it is at work.
    pub verdict: Option<Verdict>,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `SUCCESS`.
    Success,
    /// Anything else: `FAILURE`, `UNSTABLE`, `ABORTED`, `NOT_BUILT`.
    Other(String),
}

/// Returns name and value of the header that a crumb goes into.
pub(super) fn crumb(answer: &Value) -> Option<(String, String)> {
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    Some((text("crumbRequestField")?, text("crumb")?))
}

/// Returns the latest build after number `after` that was given `parameter` = `value`.
pub(super) fn built(answer: &Value, parameter: &str, value: &str, after: u64) -> Option<Build> {
    let builds = answer["builds"].as_array()?.iter();
    builds
        .filter(|one| has(one, parameter, value))
        .filter_map(build)
        .filter(|one| one.number > after)
        .max_by_key(|one| one.number)
}

/// Returns where one build stands.
pub(super) fn build(one: &Value) -> Option<Build> {
    let number = one["number"].as_u64()?;
    let building = one["building"].as_bool().unwrap_or(true);
    // Between its last line and its verdict a build is neither at work nor judged.
    let verdict = one["result"].as_str().filter(|_| !building);
    Some(Build {
        number,
        verdict: verdict.map(|result| match result {
            "SUCCESS" => Verdict::Success,
            other => Verdict::Other(other.to_owned()),
        }),
    })
}

/// Returns why an item of the job at `path` with `parameter` = `value` waits in the queue.
pub(super) fn queued(answer: &Value, path: &str, parameter: &str, value: &str) -> Option<String> {
    let items = answer["items"].as_array()?.iter();
    let ours = |item: &&Value| {
        let url = item["task"]["url"].as_str().unwrap_or_default();
        let of_job = url.trim_end_matches('/').ends_with(path);
        let cancelled = item["cancelled"].as_bool().unwrap_or(false);
        of_job && !cancelled && has(item, parameter, value)
    };
    let item = items.rev().find(ours)?;
    Some(item["why"].as_str().unwrap_or("it waits").to_owned())
}

/// Returns whether an item or a build was given `parameter` = `value`.
fn has(one: &Value, parameter: &str, value: &str) -> bool {
    let actions = one["actions"].as_array().into_iter().flatten();
    let given = actions
        .filter_map(|action| action["parameters"].as_array())
        .flatten()
        .any(|had| had["name"] == parameter && had["value"] == value);
    // Items of the queue may have them as lines only: `\nA=b\nC=d`.
    let line = format!("{parameter}={value}");
    let params = one["params"].as_str().unwrap_or_default();
    given || params.lines().any(|had| had == line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(number: u64, building: bool, result: &Value, token: &str) -> Value {
        json!({
            "number": number, "building": building, "result": result,
            "actions": [{}, { "parameters": [{ "name": "T", "value": token }] }],
        })
    }

    #[test]
    fn a_build_is_found_by_its_parameter_and_never_taken_for_an_older_one() {
        let answer = json!({ "builds": [
            of(9, true, &Value::Null, "other"),
            of(8, false, &json!("FAILURE"), "mine"),
            of(5, false, &json!("SUCCESS"), "mine"),
        ]});
        let found = |after| built(&answer, "T", "mine", after);
        let failed = Verdict::Other("FAILURE".to_owned());
        assert_eq!(
            found(0),
            Some(Build {
                number: 8,
                verdict: Some(failed)
            })
        );
        assert_eq!(found(8), None);
        assert_eq!(built(&json!({}), "T", "mine", 0), None);
    }

    #[test]
    fn a_build_without_a_verdict_is_at_work() {
        for one in [
            of(3, true, &Value::Null, ""),
            of(3, true, &json!("SUCCESS"), ""),
            of(3, false, &Value::Null, ""),
        ] {
            assert_eq!(build(&one).unwrap().verdict, None, "{one}");
        }
        let done = of(3, false, &json!("SUCCESS"), "");
        assert_eq!(build(&done).unwrap().verdict, Some(Verdict::Success));
    }

    #[test]
    fn an_item_of_the_queue_is_found_in_both_spellings() {
        let item = |url: &str, more: Value| {
            let mut item = json!({ "why": "no executor", "task": { "url": url } });
            for (key, value) in more.as_object().unwrap() {
                item[key] = value.clone();
            }
            json!({ "items": [item] })
        };
        let parameters =
            json!({ "actions": [{ "parameters": [{ "name": "T", "value": "mine" }] }] });
        let lines = json!({ "params": "\nA=b\nT=mine" });
        let url = "http://ci.test/job/shop/job/resync/";
        for more in [parameters.clone(), lines] {
            let queue = item(url, more);
            let path = "/job/shop/job/resync";
            assert_eq!(
                queued(&queue, path, "T", "mine").as_deref(),
                Some("no executor")
            );
            assert_eq!(queued(&queue, path, "T", "min"), None);
            assert_eq!(queued(&queue, "/job/other", "T", "mine"), None);
        }
        let mut cancelled = item(url, parameters);
        cancelled["items"][0]["cancelled"] = json!(true);
        assert_eq!(
            queued(&cancelled, "/job/shop/job/resync", "T", "mine"),
            None
        );
    }
}
