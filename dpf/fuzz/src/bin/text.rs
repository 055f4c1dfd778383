//! [`dpf_fuzz::text`], driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dpf_fuzz::text(bytes));
