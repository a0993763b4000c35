//! `resume_session.json`: recorded lives of session machines, call by call.

use serde_json::{Value, json};

use crate::json::text;
use crate::profiles::{Profile, profiles};
use crate::script::Runner;
use crate::world::World;
use crate::{rows, vectors};

#[test]
fn every_session_lives_as_it_did() {
    let vectors = vectors("resume_session.json", make, write);
    for script in vectors["scripts"].as_array().expect("scripts") {
        let name = text(script, "name");
        let mut runner = Runner::new(&text(script, "side"), &script["config"]);
        for (at, step) in script["steps"].as_array().expect("steps").iter().enumerate() {
            let mut call = step.as_object().expect("a step").clone();
            call.retain(|key, _| !["gives", "error", "newer", "look"].contains(&key.as_str()));
            assert_eq!(&runner.run(&Value::Object(call)), step, "{name}, step {at}");
        }
    }
}

fn make() -> Value {
    let scripts: Vec<Value> = profiles().iter().map(script).collect();
    json!({ "scripts": scripts })
}

fn script(profile: &Profile) -> Value {
    let steps = World::new(profile).live();
    json!({
        "name": profile.name,
        "side": profile.side,
        "config": profile.config(),
        "steps": steps,
    })
}

fn write(vectors: &Value) -> String {
    let scripts: Vec<String> = vectors["scripts"]
        .as_array()
        .expect("scripts")
        .iter()
        .map(|script| {
            let (name, side, config) = (&script["name"], &script["side"], &script["config"]);
            let steps = rows(script["steps"].as_array().expect("steps"), "  ");
            format!(
                "{{\"name\": {name}, \"side\": {side},\n \"config\": {config},\n \
                 \"steps\": [\n{steps}\n]}}"
            )
        })
        .collect();
    format!("{{\"scripts\": [\n{}\n]}}\n", scripts.join(",\n"))
}
