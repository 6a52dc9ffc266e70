//! Manual pages and completions: each command and each flag is in them, and those that read them
//! have nothing to complain of.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{expect_refusal, longwire, run};
use crate::tools::{Folder, commands, expect_silence, expect_told, flags, help, said, tool};

/// What a page says, without the marks of its format.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "")
}

/// The pages, as they are installed.
fn written() -> Folder {
    let folder = Folder::new();
    let dir = folder.0.join("man/man1");
    said(&["man", "--dir", dir.to_str().unwrap()]);
    fs::rename(dir, folder.0.join("man1")).unwrap();
    fs::remove_dir(folder.0.join("man")).unwrap();
    folder
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_command_has_a_page_with_each_of_its_flags() {
    let folder = written();
    let dir = folder.0.join("man1");
    let mut expected = vec!["longwire.1".to_owned()];
    let file = |command: &str| format!("longwire-{}.1", command.replace(' ', "-"));
    expected.extend(commands().iter().map(|command| file(command)));
    expected.sort();
    assert_eq!(files(&dir), expected);
    assert!(expected.contains(&"longwire-serve.1".to_owned()), "{expected:?}");
    for name in commands() {
        let page = plain(&fs::read_to_string(dir.join(file(&name))).unwrap());
        let in_help = flags(&help(&name));
        assert_eq!(flags(&page), in_help, "{name}");
        assert!(in_help.len() >= 4, "{name}: {in_help:?}");
        assert_eq!(plain(&said(&["man", &name])), page, "{name}");
    }
}

#[test]
fn page_has_the_defaults_the_variables_and_the_examples_of_the_help() {
    let page = plain(&said(&["man", "serve"]));
    for part in [
        "--ping-interval <TIME> [default: 30s]",
        "May also be specified with the LONGWIRE_ADMIN_TOKEN environment variable",
        "         longwire serve --publish none --latest prices/ --history prices/=1",
        ".SH TIMEOUTS",
        "longwire serve [OPTIONS]",
    ] {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }
    let first = plain(&said(&["man"]));
    for name in commands().iter().filter(|name| !name.contains(' ')) {
        assert!(first.contains(&format!("longwire-{name}(1)")), "{name} is not in {first}");
    }
}

#[test]
fn pages_are_what_their_readers_understand() {
    let folder = written();
    let readers =
        [("groff", &["-ww", "-man", "-Tutf8", "-z"][..]), ("mandoc", &["-Tlint", "-Wwarning"][..])];
    for (reader, args) in readers {
        let Some(program) = tool(reader) else { continue };
        let dir = folder.0.join("man1");
        for name in files(&dir) {
            let page = dir.join(&name);
            let args: Vec<&str> = args.iter().copied().chain([page.to_str().unwrap()]).collect();
            let told = expect_told(&program, &args);
            // There is none, so that a version is built to the same bytes at any time.
            let other = told.lines().find(|line| !line.contains("missing date"));
            assert_eq!(other, None, "{reader} {name}");
        }
    }
}

#[test]
fn page_of_no_command_is_an_error_in_one_line() {
    expect_refusal(longwire(&["man", "nothing"]), &["no command `nothing`", "longwire --help"]);
    let folder = Folder::new();
    let file = folder.write("file", "");
    let dir = file.join("man1");
    expect_refusal(longwire(&["man", "--dir", dir.to_str().unwrap()]), &[dir.to_str().unwrap()]);
    expect_refusal(longwire(&["completions", "tcsh"]), &["tcsh", "bash, zsh, fish"]);
}

#[test]
fn completions_have_every_command_and_flag() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for name in commands() {
            let word = name.split(' ').next_back().unwrap();
            assert!(script.contains(word), "{shell}: {name}");
            for flag in flags(&help(&name)) {
                // fish names a flag without its dashes.
                let flag = if shell == "fish" { flag.trim_start_matches('-') } else { &flag };
                assert!(script.contains(flag), "{shell}: {flag} of {name}");
            }
        }
    }
}

#[test]
fn shells_read_their_completions() {
    let folder = Folder::new();
    for (shell, flag) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let Some(program) = tool(shell) else { continue };
        let script = folder.write(shell, &said(&["completions", shell]));
        expect_silence(&program, &[flag, script.to_str().unwrap()]);
    }
}

#[test]
fn bash_completes_a_flag() {
    let Some(bash) = tool("bash") else { return };
    let folder = Folder::new();
    let script = folder.write("longwire", &said(&["completions", "bash"]));
    let ask = format!(
        "source '{}'; COMP_WORDS=(longwire serve --ping); COMP_CWORD=2; \
         _longwire longwire --ping serve; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let mut command = Command::new(bash);
    command.args(["--norc", "-c", &ask]);
    let output = run(command);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "--ping-interval\n");
}
