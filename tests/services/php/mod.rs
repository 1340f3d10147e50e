//! Values as PHP itself writes them: asked of a real `php`.

mod documents;
mod oracle;
mod restore;

use fastrand::Rng;
use oracle::{Oracle, Question};
use rekindle::value::{
    gzip::Packer,
    php::{Form, Json},
};

use crate::shop::told;

const DOCUMENTS: usize = 100_000;

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn d3_every_document_is_written_as_php_writes_it() {
    let seed = 20_261_121;
    let documents = |count: usize| {
        let mut random = Rng::with_seed(seed);
        (0..count).map(move |_| documents::document(&mut random))
    };
    let mut php = Oracle::ask(documents(DOCUMENTS).map(Question::Json));
    let mut writers =
        [Form::Message, Form::Storage, Form::Search].map(|form| (form, Json::new(form)));
    let (mut whole, mut canonical) = (0_usize, 0_usize);
    for document in documents(DOCUMENTS) {
        let mut forms = writers.iter_mut();
        let Some(mut expected) = php.answer() else {
            for (form, json) in forms {
                let written = json.encode(&document).map(shown);
                assert!(
                    written.is_err(),
                    "{form:?} of {}: {written:?}, where PHP has no array",
                    shown(&document)
                );
            }
            continue;
        };
        whole += 1;
        while let Some((form, json)) = forms.next() {
            let written = json.encode(&document).map(shown);
            assert_eq!(
                written,
                Ok(shown(&expected)),
                "{form:?} of {}",
                shown(&document)
            );
            if *form == Form::Storage {
                // What PHP wrote is not written again.
                let again = json.encode(&expected).expect("PHP's own");
                assert_eq!(shown(again), shown(&expected));
                canonical += usize::from(std::ptr::eq(again, expected.as_slice()));
            }
            if forms.len() > 0 {
                expected = php.answer().expect("a form of the same document");
            }
        }
    }
    told(&format!(
        "{DOCUMENTS} documents in three forms: {whole} whole, {canonical} of their values seen to be PHP's own"
    ));
    assert!(
        whole > DOCUMENTS / 2 && whole < DOCUMENTS * 9 / 10,
        "{whole} of {DOCUMENTS} are whole"
    );
    assert!(
        canonical > whole * 4 / 5,
        "{canonical} of {whole} were seen to be PHP's own"
    );
}

#[test]
fn every_value_is_packed_as_php_packs_it() {
    let values: Vec<Vec<u8>> = {
        let mut random = Rng::with_seed(7);
        let lens = [
            201, 250, 457, 1_000, 6_000, 20_000, 40_000, 66_000, 131_072, 200_000, 400_000,
        ];
        let mut values: Vec<_> = lens
            .into_iter()
            .flat_map(|len| (0..9).map(move |kind| (kind, len)))
            .map(|(kind, len)| packable(&mut random, kind, len))
            .collect();
        values.extend((0..2_000).map(|_| {
            let (kind, len) = (random.usize(..9), random.usize(201..3_000));
            packable(&mut random, kind, len)
        }));
        values
    };
    let mut php = Oracle::ask(values.clone().into_iter().map(Question::Gzip));
    let mut packer = Packer::default();
    for (index, value) in values.iter().enumerate() {
        let expected = php.answer().expect("packed");
        let ours = packer.pack(value);
        let differ = ours.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(
            ours == expected,
            "value {index} of {} bytes: {} bytes packed, PHP {}; first difference at {differ:?}",
            value.len(),
            ours.len(),
            expected.len()
        );
    }
}

/// From one letter to noise, and what lies between.
fn packable(random: &mut Rng, kind: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 64);
    let words: Vec<String> = (0..[1, 8, 60, 900][kind % 4])
        .map(|_| format!("\"{}\":", random.u32(..)))
        .collect();
    while out.len() < len {
        match kind {
            0 => out.push(b'a'),
            2 => out.push(random.u8(b'0'..b'4')),
            3..=6 => {
                out.extend_from_slice(words[random.usize(..words.len())].as_bytes());
                if kind > 4 {
                    out.extend_from_slice(random.u16(..).to_string().as_bytes());
                }
            }
            // Repeats that are far back, across the places where the window moves.
            7 if out.len() > 300 && random.bool() => {
                let from = random.usize(out.len().saturating_sub(40_000)..out.len() - 280);
                let until = from + random.usize(3..280);
                out.extend_from_within(from..until);
            }
            1 | 7 => out.push(random.u8(..)),
            _ => out.extend_from_slice(&documents::document(random)),
        }
    }
    out.truncate(len);
    out
}
