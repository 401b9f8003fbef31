//! The Python package: its wheel is built and installed by path into .venv, tested and type-checked.

use crate::runner::{Context, Outcome, StepResult};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether the Python package is in the tree.
pub fn exists(context: &Context) -> bool {
    context.root.join("omendb-python/pyproject.toml").is_file()
}

/// The interpreter of .venv.
pub fn interpreter(context: &Context) -> PathBuf {
    let venv = context.root.join(".venv");
    if cfg!(windows) { venv.join("Scripts/python.exe") } else { venv.join("bin/python") }
}

/// Builds, installs, tests and type-checks the package.
pub fn run(context: &Context) -> StepResult {
    if !exists(context) {
        return Ok(Outcome::Skipped("omendb-python/ is not in this tree".into()));
    }
    let package = context.root.join("omendb-python");
    prepare(context, &package)?;
    install_wheel(context, &package)?;
    let python = interpreter(context);
    let mut tests = context.command(&python, &["-m", "pytest", "-ra", "tests"]);
    tests.current_dir(&package);
    context.run_tests(tests)?;
    type_checks(context, &package)?;
    examples(context, &package)?;
    Ok(Outcome::Done)
}

/// mypy, and pyright where Node is installed: pyright runs on it, and would download it where there is none.
fn type_checks(context: &Context, package: &Path) -> Result<(), String> {
    let python = interpreter(context);
    let mut mypy = context.command(&python, &["-m", "mypy"]);
    mypy.current_dir(package);
    context.run(mypy)?;
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !node.is_ok_and(|status| status.success()) {
        println!("SKIPPED pyright: there is no node on the path, and it would download one");
        return Ok(());
    }
    let mut pyright = context.command(&python, &["-m", "pyright", "--pythonpath"]);
    pyright.arg(&python).current_dir(package);
    // The package's own copy of pyright, and no look for a newer one.
    pyright.env("PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT", "1").env("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1");
    pyright.env("PYRIGHT_PYTHON_GLOBAL_NODE", "1");
    context.run(pyright)
}

/// Makes .venv and installs the pinned tools, unless it holds them already.
fn prepare(context: &Context, package: &Path) -> Result<(), String> {
    let python = interpreter(context);
    if !python.is_file() {
        let host = if cfg!(windows) { "python" } else { "python3" };
        context.run(context.command(host, &["-m", "venv", ".venv"]))?;
    }
    let list = package.join("requirements-test.txt");
    let wanted = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let stamp = context.root.join(".venv/installed-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let list = list.to_string_lossy().into_owned();
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &list];
    context.run(context.command(&python, &install))?;
    fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}

/// Builds the wheel and installs that very file: the package's name on the public registry is another project's.
fn install_wheel(context: &Context, package: &Path) -> Result<(), String> {
    let python = interpreter(context);
    let wheels = context.target.join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    }
    let out = wheels.to_string_lossy().into_owned();
    let mut build = context.command(&python, &["-m", "maturin", "build", "--locked", "--out", &out]);
    build.current_dir(package);
    context.run(build)?;
    let wheel = fs::read_dir(&wheels)
        .map_err(|e| format!("{}: {e}", wheels.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| format!("maturin left no wheel in {}", wheels.display()))?;
    let wheel = wheel.to_string_lossy().into_owned();
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
    let mut command = context.command(&python, &install);
    command.args(["--force-reinstall", &wheel]);
    context.run(command)
}

/// Runs every program and notebook of omendb-python/examples in a fresh directory.
fn examples(context: &Context, package: &Path) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(package.join("examples")) else { return Ok(()) };
    let mut programs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "py" || e == "ipynb"))
        .collect();
    programs.sort();
    let dir = context.target.join("docs-run").join("python-examples");
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(fail)?;
    }
    fs::create_dir_all(&dir).map_err(fail)?;
    for program in programs {
        let mut arguments = vec![program];
        if arguments[0].extension().is_some_and(|e| e == "ipynb") {
            arguments.splice(0..0, [context.root.join("tools/render_notebook.py"), PathBuf::from("--check")]);
        }
        let mut command = context.command(interpreter(context), &arguments);
        command.current_dir(&dir);
        context.run(command)?;
    }
    Ok(())
}
