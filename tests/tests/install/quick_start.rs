//! The README's quick start, command by command.

use std::path::Path;

use crate::scene::Scene;

/// The heading of the README under which the commands stand.
const HEADING: &str = "## Quick start";

/// Runs the commands as a person would who copies them, with one more values file.
pub(crate) async fn run(scene: &Scene) {
    for command in commands() {
        let values = scene.values.display();
        let command = if command.starts_with("helm install") {
            format!("{command} --values {values}")
        } else {
            command
        };
        scene.step(&command, scene.shell(&command)).await;
    }
}

/// The commands of the first block below the heading.
pub(crate) fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once(HEADING).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let joined = block.replace("\\\n", " ");
    let lines = joined
        .lines()
        .map(|line| line.split("  #").next().unwrap().trim());
    let commands: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(
        commands.iter().any(|command| command.starts_with("helm install")),
        "{commands:?}"
    );
    commands
}
