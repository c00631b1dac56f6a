//! The manual and the program tell the same: pages are generated anew and compared, every id and key is explained, every
//! command in the docs is one that the program takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use pitr::cli::Cli;

use crate::support::program::{output, program};

#[path = "../examples/pages/completions.rs"]
mod completions;
#[path = "../examples/pages/generate.rs"]
mod generate;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files of a directory whose names end with `suffix`.
fn files(directory: &str, suffix: &str) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(top().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = listed.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    assert!(!files.is_empty(), "{directory}/*{suffix}");
    files.sort();
    files
}

fn pages() -> Vec<PathBuf> {
    files("man", ".8").into_iter().chain(files("man", ".5")).collect()
}

#[test]
fn man_pages_and_completions_are_those_of_this_command_line() {
    let generated = generate::files(top()).unwrap();
    for (path, text) in &generated {
        let committed = std::fs::read_to_string(top().join(path)).unwrap_or_default();
        assert!(committed == *text, "{} is not what the command line says now: run scripts/man and commit the result", path.display());
    }
    for page in files("man", ".8") {
        let page = page.strip_prefix(top()).unwrap().to_path_buf();
        assert!(generated.contains_key(&page), "{} is of no verb: remove it", page.display());
    }
    assert!(generated.keys().all(|path| !path.to_string_lossy().contains("__")), "hidden verbs have no page");
}

#[test]
fn man_pages_render_without_a_warning() {
    for page in pages() {
        for device in ["-Tutf8", "-Tascii"] {
            let said = output(program("/usr/bin/groff").args(["-ww", "-man", "-z", device]).arg(&page));
            assert_eq!((said.code, said.stderr.as_str(), said.stdout.as_str()), (0, "", ""), "{}", page.display());
        }
    }
}

#[test]
fn the_completion_for_bash_is_bash() {
    let said = output(program("/bin/bash").arg("-n").arg(top().join("packaging/completions/pitr.bash")));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let completion =
        "source packaging/completions/pitr.bash; COMP_WORDS=(pitr re); COMP_CWORD=1; _pitr_known pitr re pitr; echo \"${COMPREPLY[@]}\"";
    let said = output(program("/bin/bash").args(["-c", completion]).current_dir(top()));
    assert!(said.stdout.contains("restore") && said.stdout.contains("resume") && said.stderr.is_empty(), "{said:?}");
}

/// Ids of refusals in the source, and whether one is a judgement.
fn ids() -> BTreeMap<String, bool> {
    let mut ids = BTreeMap::new();
    for file in sources(&top().join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for (call, judgement) in [("fact(", false), ("judgement(", true), ("refused(", false), ("problem(", false), (".id(", false)] {
            for (at, _) in text.match_indices(call) {
                ids.extend(id_at(&text[at + call.len()..]).map(|id| (id, judgement)));
            }
        }
        for line in text.lines().filter(|line| line.trim_start().starts_with("let id = if ")) {
            ids.extend(line.split('"').skip(1).step_by(2).map(|id| (id.to_string(), false)));
        }
    }
    // capability_hint: the ids are put together.
    ids.extend(["no-exchange", "no-namespaces", "no-program"].map(|id| (id.to_string(), false)));
    assert!(ids.len() > 50, "the source was not understood: {ids:?}");
    ids
}

/// The string literal of lower case words and hyphens that begins here, after white space.
fn id_at(text: &str) -> Option<String> {
    let (id, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (!id.is_empty() && id.chars().all(good)).then(|| id.to_string())
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "fixtures.rs" {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_refusal_is_explained() {
    let page = read("docs/refusals.md");
    let mut sections: BTreeMap<&str, &str> = BTreeMap::new();
    for section in page.split("\n### ").skip(1) {
        let (id, words) = section.split_once('\n').unwrap();
        assert!(sections.insert(id, words.split("\n## ").next().unwrap()).is_none(), "{id} is there twice");
    }
    let ids = ids();
    for (id, judgement) in &ids {
        let words = sections.get(id.as_str()).unwrap_or_else(|| {
            panic!("docs/refusals.md does not explain {id}: add a section \"### {id}\" that says what it means and what to do")
        });
        assert!(words.trim().len() > 30, "docs/refusals.md says next to nothing about {id}");
        let accept = format!("--accept {id}");
        assert!(
            !judgement || words.contains(&accept),
            "{id} is a judgement: say in its section of docs/refusals.md that `{accept}` overrides it"
        );
    }
    let gone: Vec<&&str> = sections.keys().filter(|id| !ids.contains_key(**id)).collect();
    assert!(gone.is_empty(), "docs/refusals.md explains what the source no longer has: remove {gone:?}");
}

/// Keys of `const NAME: [&str; N] = [ … ];` in the reader of the configuration.
fn keys(constant: &str) -> Vec<String> {
    let source = read("src/config/parse.rs");
    let (_, rest) = source.split_once(&format!("const {constant}: ")).unwrap_or_else(|| panic!("no {constant} in src/config/parse.rs"));
    let (_, list) = rest.split_once("= [").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let keys: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_string).collect();
    assert!(keys.len() > 3, "{list}");
    keys
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let (page, manual, example) = (read("docs/configuration.md"), read("man/pitr.toml.5"), read("packaging/pitr.toml"));
    let keys = [keys("CLUSTER_KEYS"), keys("HOOK_KEYS"), vec!["state_directory".into()]].concat();
    for key in &keys {
        let table = *key == "hooks";
        assert!(table || page.contains(&format!("\n| `{key}` | ")), "docs/configuration.md lacks a line \"| `{key}` | … |\" in its tables");
        assert!(manual.contains(&format!("\n.B {key}\n")), "man/pitr.toml.5 lacks a paragraph \".TP\\n.B {key}\"");
        assert!(table || example.contains(&format!("\n#{key} = ")), "packaging/pitr.toml lacks a line \"#{key} = …\"");
    }
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let key = line.split('`').next().unwrap().to_string();
        assert!(keys.contains(&key), "docs/configuration.md explains {key}, which is no key any more");
    }
}

#[test]
fn the_packaged_configuration_is_empty_and_right_when_its_signs_are_taken_off() {
    let text = read("packaging/pitr.toml");
    let file = Path::new("/etc/pitr/pitr.toml");
    let as_shipped = pitr::config::parse(&text, file).unwrap();
    assert!(as_shipped.clusters.is_empty() && as_shipped.state_directory.is_none());
    let bare: Vec<&str> = text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)).collect();
    let parsed = pitr::config::parse(&bare.join("\n"), file).unwrap();
    assert_eq!(parsed.clusters["15-main"].hooks.before.len(), 1);
    for page in ["docs/configuration.md", "README.md"] {
        let page = read(page);
        for block in page.split("```toml\n").skip(1) {
            pitr::config::parse(block.split("```").next().unwrap(), file).unwrap();
        }
    }
}

#[test]
fn every_check_in_the_docs_is_a_check() {
    let page = read("docs/checks.md");
    let block = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(pitr::plan::checks::parse_checks(block, Path::new("checks.md")).unwrap().len(), 3);
}

/// Commands of the docs: whole lines in code blocks, and those between backquotes in the text, which may stop short.
fn commands() -> Vec<(String, String, bool)> {
    let mut commands = Vec::new();
    for file in files("docs", ".md").into_iter().chain([top().join("README.md"), top().join("packaging/ansible/README.md")]) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let mut block = false;
        for line in text.lines() {
            if line.starts_with("```") {
                block = !block;
            } else if block {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                let line = line.split("  #").next().unwrap().trim_end();
                if line.starts_with("pitr ") {
                    commands.push((name.clone(), line.to_string(), true));
                }
            } else {
                let quoted = line.split('`').skip(1).step_by(2).filter(|words| words.starts_with("pitr "));
                commands.extend(quoted.map(|words| (name.clone(), words.to_string(), false)));
            }
        }
    }
    commands
}

/// Words as a shell splits them; the docs use no other quotes than these.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            (c, _) => word.push(c),
        }
    }
    assert!(quote.is_none(), "{line}");
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_command_in_the_docs_is_taken() {
    let commands = commands();
    assert!(commands.iter().filter(|(_, _, whole)| *whole).count() > 15, "{commands:?}");
    for (file, line, whole) in commands {
        let Err(error) = Cli::try_parse_from(words(&line)) else { continue };
        let told = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        let short = !whole && error.kind() == ErrorKind::MissingRequiredArgument;
        let named = !whole && line.split(' ').any(|word| ["RUN", "NAME", "DIGEST", "…"].contains(&word));
        assert!(told || short || named, "{file} says `{line}`: {error}");
    }
}

#[test]
fn every_verb_is_in_the_manual() {
    let names: BTreeSet<String> = generate::files(top()).unwrap().into_keys().map(|path| path.display().to_string()).collect();
    let pages: String =
        files("docs", ".md").into_iter().chain([top().join("README.md")]).map(|f| std::fs::read_to_string(f).unwrap()).collect();
    for name in names.iter().filter_map(|name| name.strip_prefix("man/pitr-")?.strip_suffix(".8")) {
        let verb = format!("pitr {}", name.replace('-', " "));
        assert!(pages.contains(&verb), "no page of docs/ mentions `{verb}`: add it, best to docs/runbooks.md");
    }
}

/// Every flag that decides a recovery can be given from Ansible, too, and is documented there.
#[test]
fn every_flag_of_a_recovery_is_an_option_of_the_ansible_modules() {
    use clap::CommandFactory;
    let ours = ["plan", "max-loss", "yes", "dry-run", "output", "no-progress", "quiet", "verbose", "help"];
    let (documented, taken) =
        (read("packaging/ansible/plugins/doc_fragments/pitr.py"), read("packaging/ansible/plugins/module_utils/pitr.py"));
    let command = Cli::command();
    let restore = command.find_subcommand("restore").unwrap();
    let flags: Vec<&str> = restore.get_arguments().filter_map(|a| a.get_long()).filter(|long| !ours.contains(long)).collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in flags {
        let name = if flag == "as" { "as_cluster".to_string() } else { flag.replace('-', "_") };
        assert!(documented.contains(&format!("\n  {name}:\n    description:")), "the fragment does not document {name}");
        assert!(taken.contains(&format!("\n    {name}=dict(")), "module_utils do not take {name}");
    }
}
