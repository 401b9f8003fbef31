//! A power cut on a real file system loses no acknowledged write.
//!
//! Each round runs a writer process on a loop-mounted ext4, shuts the file system down under it without letting its
//! journal be written (EXT4_IOC_SHUTDOWN, no log flush), mounts it again and compares what the database holds with
//! what was acknowledged. A file that was written but never synced must be gone, or the cut was none.
//! It needs root and a loop device; without them it says SKIPPED and why.
#![cfg(target_os = "linux")]

mod workload;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use workload::{Model, Random};

/// The environment variable that makes this program the writer: `seed,first operation,path`.
const WRITER: &str = "OMENDB_TEST_POWER_CUT_WRITER";
/// The environment variable that sets the number of rounds.
const ROUNDS: &str = "OMENDB_TEST_POWER_CUT_ROUNDS";
const DEFAULT_ROUNDS: u64 = 20;
const SEED: u64 = 0x0DE5_1DE5;
/// Bytes of the file system's image; it is sparse.
const IMAGE_BYTES: u64 = 512 << 20;
/// `_IOR('X', 125, __u32)` of the kernel's fs/ext4/ext4.h, and its flag that drops the journal's unwritten part.
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// The writer's side: does nothing unless the test below started it.
#[test]
fn writer_process() {
    let Ok(order) = std::env::var(WRITER) else { return };
    let mut parts = order.splitn(3, ',');
    let mut number = || parts.next().and_then(|n| n.parse().ok()).expect("seed,first,path");
    let (seed, first) = (number(), number());
    let path = parts.next().expect("seed,first,path");
    if let Err(error) = workload::write_until_stopped(Path::new(path), seed, first) {
        eprintln!("writer: {error}");
    }
}

#[test]
fn acknowledged_writes_survive_a_power_cut() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = match Disk::make(dir.path()) {
        Ok(disk) => disk,
        Err(reason) => return say(&format!("SKIPPED power cut: {reason}")),
    };
    let rounds = std::env::var(ROUNDS).ok().and_then(|n| n.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let mut random = Random(SEED);
    let mut model = Model::new();
    let (mut next, mut acknowledged, mut in_flight_kept) = (0, 0, 0);
    for round in 0..rounds {
        disk.mount().expect("it was mounted before");
        let last = run_and_cut(&disk, next, &mut random);
        disk.unmount();
        disk.mount().expect("the journal is replayed");
        assert!(!disk.control_survived(), "round {round}: an unsynced file survived, so this was no power cut");
        let found = workload::read_back(&disk.database());
        disk.unmount();
        let done = last.map_or(next, |last| last + 1);
        for n in next..done {
            workload::apply(&mut model, &workload::operation(SEED, n));
        }
        acknowledged += done - next;
        next = done;
        // the operation in flight may have become durable without having been acknowledged
        let mut with_next = model.clone();
        workload::apply(&mut with_next, &workload::operation(SEED, next));
        if found == with_next {
            in_flight_kept += u64::from(with_next != model);
            model = with_next;
            next += 1;
        }
        assert!(found == model, "round {round}, {next} operations: {}", workload::difference(&model, &found));
    }
    assert!(acknowledged >= rounds, "only {acknowledged} operations were acknowledged in {rounds} rounds");
    say(&format!(
        "FIGURE power cut: {rounds} rounds, {acknowledged} acknowledged operations, 0 lost, {in_flight_kept} in flight \
            kept"
    ));
}

/// Starts the writer, cuts the power after a random number of acknowledgements, and returns the last one.
fn run_and_cut(disk: &Disk, first: u64, random: &mut Random) -> Option<u64> {
    let mut writer = start_writer(&disk.database(), first);
    let mut acknowledgements = BufReader::new(writer.stdout.take().expect("standard output is piped")).lines();
    let mut read = || -> Option<u64> {
        loop {
            let line = acknowledgements.next()?.ok()?;
            // the test harness prints lines of its own around the writer's
            if let Some(n) = line.rsplit("ack ").next().filter(|_| line.contains("ack ")).and_then(|n| n.parse().ok()) {
                return Some(n);
            }
        }
    };
    let mut last = None;
    for _ in 0..1 + random.below(150) {
        match read() {
            Some(n) => last = Some(n),
            None => panic!("the writer ended before the power cut, after operation {last:?}"),
        }
    }
    std::thread::sleep(Duration::from_micros(random.below(4000)));
    disk.write_control();
    disk.cut_power();
    // what was acknowledged before the cut may still be in the pipe; the writer fails at its next write
    std::thread::sleep(Duration::from_millis(20));
    let _ = writer.kill();
    while let Some(n) = read() {
        last = Some(n);
    }
    let _ = writer.wait();
    last
}

fn start_writer(database: &Path, first: u64) -> Child {
    let program = std::env::current_exe().expect("the test knows its own program");
    Command::new(program)
        .args(["--exact", "writer_process", "--nocapture", "--test-threads", "1"])
        .env(WRITER, format!("{SEED},{first},{}", database.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the writer starts")
}

/// Writes past the test harness's capture, so that the line shows.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "\n{line}");
}

/// An ext4 file system in a file, mounted through a loop device.
struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    /// Makes the file system and mounts it once; an error says what the machine lacks.
    fn make(dir: &Path) -> Result<Disk, String> {
        let user = output("id", &["-u"])?;
        if user.trim() != "0" {
            return Err(format!("it mounts a file system, which needs root; this is user {}", user.trim()));
        }
        let disk = Disk { image: dir.join("disk.img"), mount_point: dir.join("mnt") };
        fs::create_dir(&disk.mount_point).map_err(|e| e.to_string())?;
        let image = fs::File::create(&disk.image).map_err(|e| e.to_string())?;
        image.set_len(IMAGE_BYTES).map_err(|e| e.to_string())?;
        output("mkfs.ext4", &["-q", "-F", &disk.image.to_string_lossy()])?;
        disk.mount()?;
        disk.unmount();
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let (image, point) = (self.image.to_string_lossy(), self.mount_point.to_string_lossy());
        output("mount", &["-t", "ext4", "-o", "loop", &image, &point]).map(|_| ())
    }

    fn unmount(&self) {
        let point = self.mount_point.to_string_lossy();
        let mut result = Ok(String::new());
        for _ in 0..100 {
            result = output("umount", &[&point]);
            if result.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("cannot unmount: {result:?}");
    }

    fn database(&self) -> PathBuf {
        self.mount_point.join("db.omen")
    }

    fn control(&self) -> PathBuf {
        self.mount_point.join("never-synced")
    }

    fn write_control(&self) {
        fs::write(self.control(), [7; 5000]).expect("the control file is written");
    }

    fn control_survived(&self) -> bool {
        let survived = fs::read(self.control()).is_ok_and(|bytes| bytes == [7; 5000]);
        let _ = fs::remove_file(self.control());
        survived
    }

    /// Drops everything the file system has not yet given to the device, and refuses whatever comes after.
    fn cut_power(&self) {
        let root = fs::File::open(&self.mount_point).expect("the mount point opens");
        let flag = EXT4_GOING_FLAGS_NOLOGFLUSH;
        // SAFETY: the descriptor is open for the whole call, and the kernel reads one u32 behind the pointer.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flag) };
        assert_eq!(result, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // only after a failed assertion is it still mounted
        let _ = Command::new("umount").arg("-l").arg(&self.mount_point).stderr(Stdio::null()).status();
    }
}

/// Runs a program and returns its standard output; an error holds what it said.
fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
