//! Mistakes in declarations are compile errors that point at the field or attribute.

#[test]
fn mistakes_point_at_their_place() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
