#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retell::fuzz::run("sqlite_pages", bytes));
