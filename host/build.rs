//! Migrations are compiled in by a macro that cargo does not see them through. Without this line, every
//! file of the package would count as one.

fn main() {
    println!("cargo::rerun-if-changed=host/migrations");
}
