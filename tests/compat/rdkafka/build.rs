//! Tells the driver the version of the crate that the lock file pins.

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").expect("the lock file is beside this one");
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"rdkafka\"").skip(1);
    let version = lines.next().and_then(|line| line.split('"').nth(1)).expect("rdkafka is in it");
    println!("cargo::rustc-env=RDKAFKA_CRATE={version}");
    println!("cargo::rerun-if-changed=Cargo.lock");
}
