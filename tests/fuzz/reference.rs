//! What PHP makes of JSON, the slow and plain way: a tree. Shares nothing with the encoder but the documentation it was
//! written after.

/// Objects and lists within each other that `json_decode` reads.
const DEEPEST: usize = 511;

/// A value as PHP holds it. An array whose keys are `0..n` in order is a list, whatever it was written as.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// A number as PHP holds it.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl PartialEq for Number {
    /// A float without a fraction is written as an integer is, and one beyond all floats as 0.
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (a, b) => a.float() == b.float(),
        }
    }
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "PHP loses it, too")]
    fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) if number.is_finite() => number,
            Self::Float(_) => 0.0,
        }
    }
}

/// Returns what `json_decode($input, true)` gives; `None` where that fails.
pub fn decode(input: &[u8]) -> Option<Tree> {
    Some(array_of(members(input)?))
}

/// Returns the same without the member `_timestamp` of the outermost object.
pub fn decode_without_timestamp(input: &[u8]) -> Option<Tree> {
    Some(array_of(match members(input)? {
        Tree::Map(mut members) => {
            members.retain(|(key, _)| key != "_timestamp");
            Tree::Map(members)
        }
        other => other,
    }))
}

/// Returns the value with its outermost object not made a list of yet.
fn members(input: &[u8]) -> Option<Tree> {
    let mut reader = Reader {
        rest: str::from_utf8(input).ok()?,
    };
    let value = reader.value(0)?;
    reader.space();
    reader.rest.is_empty().then_some(value)
}

fn array_of(tree: Tree) -> Tree {
    match tree {
        Tree::Map(members)
            if members
                .iter()
                .enumerate()
                .all(|(index, (key, _))| *key == index.to_string()) =>
        {
            Tree::List(members.into_iter().map(|(_, value)| value).collect())
        }
        other => other,
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `wanted` if it comes next.
    fn takes(&mut self, wanted: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads a value within `depth` others. Only the outermost keeps its members as they stand.
    fn value(&mut self, depth: usize) -> Option<Tree> {
        self.space();
        let value = match self.rest.chars().next()? {
            '{' if depth < DEEPEST => Tree::Map(self.object(depth + 1)?),
            '[' if depth < DEEPEST => Tree::List(self.list(depth + 1)?),
            '"' => Tree::Text(self.text()?),
            '-' | '0'..='9' => Tree::Number(self.number()?),
            _ if self.takes("true") => Tree::Bool(true),
            _ if self.takes("false") => Tree::Bool(false),
            _ if self.takes("null") => Tree::Null,
            _ => return None,
        };
        Some(if depth == 0 { value } else { array_of(value) })
    }

    fn object(&mut self, depth: usize) -> Option<Vec<(String, Tree)>> {
        let mut members: Vec<(String, Tree)> = Vec::new();
        self.rest = &self.rest[1..];
        if self.takes("}") {
            return Some(members);
        }
        loop {
            self.space();
            let key = self.rest.starts_with('"').then(|| self.text())??;
            self.takes(":").then_some(())?;
            let value = self.value(depth)?;
            match members.iter_mut().find(|(known, _)| *known == key) {
                Some(member) => member.1 = value,
                None => members.push((key, value)),
            }
            if self.takes("}") {
                return Some(members);
            }
            self.takes(",").then_some(())?;
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Tree>> {
        let mut values = Vec::new();
        self.rest = &self.rest[1..];
        if self.takes("]") {
            return Some(values);
        }
        loop {
            values.push(self.value(depth)?);
            if self.takes("]") {
                return Some(values);
            }
            self.takes(",").then_some(())?;
        }
    }

    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next()? {
                '"' => {
                    self.rest = chars.as_str();
                    return Some(text);
                }
                '\\' => text.push(match chars.next()? {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let first = unit(&mut chars)?;
                        let mut units = vec![first];
                        if (0xd800..0xdc00).contains(&first) {
                            if (chars.next()?, chars.next()?) != ('\\', 'u') {
                                return None;
                            }
                            units.push(unit(&mut chars)?);
                        }
                        let mut decoded = char::decode_utf16(units);
                        match (decoded.next(), decoded.next()) {
                            (Some(Ok(char)), None) => char,
                            _ => return None,
                        }
                    }
                    same @ ('"' | '\\' | '/') => same,
                    _ => return None,
                }),
                '\0'..='\u{1f}' => return None,
                char => text.push(char),
            }
        }
    }

    fn number(&mut self) -> Option<Number> {
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let exponent_digits =
            exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        let sound = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent_digits.is_none_or(digits);
        if !sound {
            return None;
        }
        match text.parse() {
            Ok(int) if fraction.is_none() && exponent.is_none() => Some(Number::Int(int)),
            _ => text.parse().ok().map(Number::Float),
        }
    }
}

fn unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | chars.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}
