//! How fast values become what PHP would write: `make bench-values`.
//!
//! Beside them two floors, in the same run: copying the bytes, and looking at each whether it is UTF-8. Measured is the time
//! that the processor worked for us, so that whatever else the machine does hardly counts.

use std::{hint::black_box, time::Duration};

use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use rekindle::value::{
    gzip::Packer,
    php::{Form, Json},
};
use rustix::time::{ClockId, clock_gettime};

/// A row of `spy_url_storage`: short keys, numbers and nulls, 460 bytes, as PHP wrote it.
fn url() -> Vec<u8> {
    let mut out = String::from(
        r#"{"fk_resource_categorynode":null,"fk_resource_page":null,"fk_resource_product_abstract":4711,"fk_resource_redirect":null,"id_url":815,"url":"\/de\/canon-ixus-285-4711","locale_urls":["#,
    );
    for (id, locale) in [(46, "en_US"), (66, "de_DE")] {
        out += &format!(
            r#"{{"id_url":{id}15,"fk_locale":{id},"fk_resource_product_abstract":4711,"url":"\/{}\/canon-ixus-285-4711","locale_name":"{locale}"}},"#,
            &locale[..2]
        );
    }
    out.pop();
    out += r#"],"_updated":"2026-11-21 13:30:27.000000"}"#;
    out.into_bytes()
}

/// A row of `spy_product_abstract_storage`: attributes and texts, some 6 kB, as PHP wrote it.
fn product() -> Vec<u8> {
    let mut out = String::from(
        r#"{"id_product_abstract":4711,"sku":"4711","name":"Canon IXUS 285","url":"\/de\/canon-ixus-285-4711","attributes":{"#,
    );
    for n in 0..40 {
        out += &format!(r#""attribute_{n}":"value {n} of 40, gr\u00f6\u00dfer","#);
    }
    out.pop();
    out += r#"},"price":129.99,"description":""#;
    out += &"Hervorragende Bilder, ganz einfach. Die Kamera zoomt 12-fach (optisch) und passt in jede Tasche; mit WLAN. ".repeat(35);
    out += r#"","attribute_map":{"product_concrete_ids":{"a-1":1,"b-2":2},"super_attributes":{"color":["black","white"]}}}"#;
    out.into_bytes()
}

/// The same value as another program would write it: white space, raw UTF-8, bare slashes.
fn foreign(value: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(value)
        .replace("\\u00f6", "ö")
        .replace("\\u00df", "ß")
        .replace("\\/", "/")
        .replace("\":", "\": ")
        .replace(",\"", ", \"")
        .into_bytes()
}

/// The processor time of this thread.
struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
        Duration::new(time.tv_sec.unsigned_abs(), nanoseconds)
    }

    fn end(&self, begun: Duration) -> Duration {
        self.start().saturating_sub(begun)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, time: &Duration) -> f64 {
        WallTime.to_f64(time)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn values(criterion: &mut Criterion<ProcessorTime>) {
    for (name, value) in [("url", url()), ("product_abstract", product())] {
        let mut json = Json::new(Form::Storage);
        assert!(std::ptr::eq(
            json.encode(&value).expect("PHP's own"),
            value.as_slice()
        ));
        let other = foreign(&value);
        assert_eq!(json.encode(&other).expect("JSON"), value.as_slice());

        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(value.len() as u64));
        group.bench_function("floor: copied", |bencher| {
            let mut out = Vec::with_capacity(value.len());
            bencher.iter(|| {
                out.clear();
                out.extend_from_slice(black_box(&value));
                black_box(out.len())
            });
        });
        group.bench_function("floor: validated as UTF-8", |bencher| {
            bencher.iter(|| str::from_utf8(black_box(&value)).expect("text").len());
        });
        group.bench_function("canonical", |bencher| {
            let mut out = Vec::with_capacity(value.len());
            bencher.iter(|| {
                out.clear();
                out.extend_from_slice(json.encode(black_box(&value)).expect("PHP's own"));
                black_box(out.len())
            });
        });
        group.bench_function("gzip", |bencher| {
            let mut packer = Packer::default();
            bencher.iter(|| packer.pack(black_box(&value)).len());
        });
        group.throughput(Throughput::Bytes(other.len() as u64));
        group.bench_function("re-encoded", |bencher| {
            bencher.iter(|| json.encode(black_box(&other)).expect("JSON").len());
        });
        group.bench_function("re-encoded for search", |bencher| {
            let mut json = Json::new(Form::Search);
            bencher.iter(|| json.encode(black_box(&other)).expect("JSON").len());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = values
}
criterion_main!(benches);
