//! Every input that a fuzzer broke something with, for ever.

use std::fs;

use super::fixtures::testdata;
use super::properties::check_all;

#[test]
fn what_a_fuzzer_found_is_refused_or_read() {
    let mut crashers = 0;
    for entry in fs::read_dir(testdata("crashers")).unwrap() {
        check_all(&fs::read(entry.unwrap().path()).unwrap().into());
        crashers += 1;
    }
    assert!(crashers > 0);
}
