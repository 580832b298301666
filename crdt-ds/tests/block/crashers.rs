//! Hostile inputs, and every input that a fuzzer broke something with, for ever.

use std::fs;

use super::fixtures::testdata;
use super::properties::check_all;

#[test]
fn hostile_inputs_are_refused_or_read() {
    let mut inputs = 0;
    for entry in fs::read_dir(testdata("crashers")).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check_all(&fs::read(path).unwrap().into());
        inputs += 1;
    }
    assert!(inputs > 0);
}
