//! Definitions of freestyle jobs: what we write, and the little that is read of others.

/// What the description of a job of ours begins with.
const OURS: &str = "Made by rekindle";

/// Returns the definition of a freestyle job that runs `commands`, one after the other, and takes these parameters.
#[must_use]
pub fn freestyle(plan: &str, parameters: &[&str], commands: &[String]) -> String {
    let builders = commands.iter().map(|command| {
        let command = escaped(command);
        format!("<hudson.tasks.Shell><command>{command}</command></hudson.tasks.Shell>")
    });
    let builders = builders.collect::<Vec<_>>().concat();
    let parameters = parameters.iter().map(|name| {
        format!(
            "<hudson.model.StringParameterDefinition><name>{}</name>\
             <description>Given by the run that asks for the build</description><defaultValue></defaultValue>\
             </hudson.model.StringParameterDefinition>",
            escaped(name)
        )
    });
    let parameters = parameters.collect::<Vec<_>>().concat();
    let plan = escaped(plan);
    format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<project><actions/>\
         <description>{OURS} for plan {plan}: changes are overwritten</description>\
         <keepDependencies>false</keepDependencies><properties><hudson.model.ParametersDefinitionProperty>\
         <parameterDefinitions>{parameters}</parameterDefinitions>\
         </hudson.model.ParametersDefinitionProperty></properties><scm class=\"hudson.scm.NullSCM\"/>\
         <canRoam>true</canRoam><disabled>false</disabled><concurrentBuild>false</concurrentBuild>\
         <builders>{builders}</builders><publishers/><buildWrappers/></project>\n"
    )
}

/// Returns whether a job of this definition was made by us, so that it may be overwritten.
#[must_use]
pub fn is_ours(xml: &str) -> bool {
    inside(xml, "description").is_some_and(|text| text.starts_with(OURS))
}

/// Returns whether a job of this definition takes the parameter `name`.
#[must_use]
pub fn has_parameter(xml: &str, name: &str) -> bool {
    let definitions = inside(xml, "parameterDefinitions").unwrap_or_default();
    let name = format!("<name>{}</name>", escaped(name));
    definitions.contains(&name)
}

/// Returns the commands of the "Execute shell" steps of a job, in their order.
#[must_use]
pub fn shell_steps(xml: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find("<hudson.tasks.Shell") {
        rest = &rest[at..];
        let Some(end) = rest.find("</hudson.tasks.Shell>") else {
            break;
        };
        found.extend(inside(&rest[..end], "command").map(unescaped));
        rest = &rest[end..];
    }
    found
}

/// Returns what stands between the first `<name>` and its end, as it is written.
fn inside<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let begin = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let length = xml[begin..].find(&format!("</{name}>"))?;
    Some(&xml[begin..begin + length])
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // A reader of XML would take it for a line's end of its own.
            '\r' => escaped.push_str("&#xd;"),
            // No XML 1.0 can hold the others.
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';') else { break };
        let entity = &rest[1..end];
        let meant = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => numbered(entity),
        };
        match meant {
            Some(c) => plain.push(c),
            None => plain.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    plain.push_str(rest);
    plain
}

/// Returns the character of `#xd` or `#13`.
fn numbered(entity: &str) -> Option<char> {
    let digits = entity.strip_prefix('#')?;
    let number = match digits.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    char::from_u32(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_as_they_were_whatever_they_hold() {
        let commands = [
            "echo \"a & b\" > 'c' <<X\r\nü\n\tX".to_owned(),
            "</command></hudson.tasks.Shell> &amp; &#13; ]]>".to_owned(),
        ];
        let xml = freestyle("shop & <co>", &["REKINDLE"], &commands);
        assert_eq!(shell_steps(&xml), commands);
        assert!(is_ours(&xml) && has_parameter(&xml, "REKINDLE"));
        assert!(!has_parameter(&xml, "REKINDL"));
        assert_eq!(xml.matches("<hudson.tasks.Shell>").count(), 2);
    }

    #[test]
    fn jobs_of_others_are_known_as_such() {
        // As Jenkins 2.4 writes them, with the plugin's version as an attribute.
        let xml = "<?xml version='1.1' encoding='UTF-8'?>\n<project>\n  <description>Nightly</description>\n  \
                   <builders>\n    <hudson.tasks.Shell>\n      <command>vendor/bin/console queue:worker:start \
                   &amp;&amp; true</command>\n      <configuredLocalRules/>\n    </hudson.tasks.Shell>\n  </builders>\n</project>";
        assert!(!is_ours(xml) && !has_parameter(xml, "REKINDLE"));
        assert_eq!(
            shell_steps(xml),
            ["vendor/bin/console queue:worker:start && true"]
        );
        assert!(shell_steps("<project/>").is_empty());
    }
}
