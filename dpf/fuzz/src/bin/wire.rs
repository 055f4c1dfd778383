//! [`dpf_fuzz::wire`], driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dpf_fuzz::wire(bytes));
