//! stdin, stdout and stderr of a command of `exec`: pipes, whatever the caller's own are.
//!
//! A descriptor of the caller's terminal would let a container read what is typed there after the command has ended, and
//! `/proc/self/fd/0` opens the caller's file once more, for writing (proc_pid_fd(5)). A pipe leads to nothing but a pipe.
//! It is no socket: those cannot be opened through /dev/stdout (ENXIO).
//!
//! Where the caller's own is a pipe, the command gets that pipe, but opened once more: flags such as O_NONBLOCK belong to
//! the open file (fcntl(2)), which others of the caller's processes share. A socket cannot be opened again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::Failure;
use super::client::Conversation;
use super::relay::Flow;
use crate::report::{Report, exit_code};
use crate::supervisor::protocol::Reply;
use crate::sys::poll::{self, Want};
use crate::sys::signals::PassedSignals;
use crate::sys::stdio;

/// Device number of /dev/null: major 1, minor 3 (null(4)).
const NULL_DEVICE: u64 = 0x103;

/// What the command is given: stdin, stdout, stderr.
pub(crate) type Given = [OwnedFd; 3];

/// What passes through us.
pub(crate) struct Streams {
    input: Option<Flow>,
    /// A failed read of stdin is an error and not its end: half a file must not look like all of it.
    input_is_file: bool,
    outputs: Vec<Flow>,
}

/// Pipes for the caller's stdin (without `interactive`: /dev/null), stdout and stderr, where these are none already.
///
/// # Errors
/// One of them is a directory.
pub(crate) fn prepare(interactive: bool) -> Result<(Given, Streams), Failure> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let [to_stdout, to_stderr] = [Caller::own(stdout.as_fd())?, Caller::own(stderr.as_fd())?];
    let mut streams = Streams { input: None, input_is_file: false, outputs: Vec::new() };
    let input = if interactive {
        let caller = Caller::own(stdin.as_fd())?;
        streams.input_is_file = caller.kind.is_file() || caller.kind.is_block_device();
        streams.input(caller)?
    } else {
        File::open("/dev/null")?.into()
    };
    // One pipe for `>FILE 2>&1` and for a terminal: two would change the order of the lines.
    let same = to_stdout.is_same(&to_stderr);
    let output = streams.output(to_stdout)?;
    let errors = if same { output.try_clone()? } else { streams.output(to_stderr)? };
    Ok(([input, output, errors], streams))
}

/// One of the caller's descriptors.
struct Caller {
    file: File,
    kind: fs::FileType,
    /// Device, inode, and for a device its number.
    identity: (u64, u64, u64),
    /// A container may have the same.
    harmless: Option<Harmless>,
}

/// What leads nowhere else.
enum Harmless {
    /// /dev/null: its open file has no flag that matters to others.
    Null,
    /// A pipe(2). A FIFO with a name outlives its users, who may be others the next time.
    Pipe,
}

impl Caller {
    fn own(fd: BorrowedFd<'_>) -> Result<Caller, Failure> {
        let file = File::from(fd.try_clone_to_owned()?);
        let found = file.metadata()?;
        let kind = found.file_type();
        if kind.is_dir() {
            return Err(Report::new(exit_code::USAGE, "stdin, stdout or stderr is a directory")
                .because("it would lead the command out of its container")
                .into());
        }
        let harmless = if kind.is_char_device() && found.rdev() == NULL_DEVICE {
            Some(Harmless::Null)
        } else if kind.is_fifo() && is_nameless(&file) {
            Some(Harmless::Pipe)
        } else {
            None
        };
        Ok(Caller { file, kind, identity: (found.dev(), found.ino(), found.rdev()), harmless })
    }

    /// What a container may have, opened like this. An error gives it back: its bytes have to pass through us.
    fn given(self, how: &fs::OpenOptions) -> Result<OwnedFd, Caller> {
        match self.harmless {
            Some(Harmless::Null) => Ok(self.file.into()),
            // EACCES: it was made by another user (sudo). Without /proc there is no way to it.
            Some(Harmless::Pipe) => match how.open(path_of(&self.file)) {
                Ok(opened) => Ok(opened.into()),
                Err(_) => Err(self),
            },
            None => Err(self),
        }
    }

    fn is_same(&self, other: &Caller) -> bool {
        self.identity == other.identity
    }
}

fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn is_nameless(fifo: &File) -> bool {
    let target = fs::read_link(path_of(fifo));
    target.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"pipe:["))
}

impl Streams {
    fn input(&mut self, caller: Caller) -> Result<OwnedFd, Failure> {
        let caller = match caller.given(File::options().read(true)) {
            Ok(same) => return Ok(same),
            Err(caller) => caller,
        };
        let (theirs, ours) = pipe()?;
        stdio::set_nonblocking(ours.as_fd())?;
        self.input = Some(Flow::new(Some(caller.file), ours.into()));
        Ok(theirs)
    }

    fn output(&mut self, caller: Caller) -> Result<OwnedFd, Failure> {
        let caller = match caller.given(File::options().write(true)) {
            Ok(same) => return Ok(same),
            Err(caller) => caller,
        };
        let (ours, theirs) = pipe()?;
        stdio::set_nonblocking(ours.as_fd())?;
        self.outputs.push(Flow::new(Some(ours.into()), caller.file));
        Ok(theirs)
    }

    /// Relays until the command has ended and all that it wrote has passed. A process that it left behind may hold the
    /// pipes for ever: nothing is waited for after the command's own end.
    pub(crate) fn pass(
        mut self,
        conversation: &Conversation,
        signals: PassedSignals,
    ) -> Result<Option<Reply>, Failure> {
        loop {
            let (replied, input, outputs) = self.wait(conversation, &signals)?;
            if replied {
                break;
            }
            if input {
                self.pass_input()?;
            }
            for (flow, woken) in self.outputs.iter_mut().zip(outputs) {
                if woken {
                    step(flow)?;
                }
            }
            self.outputs.retain(|flow| !flow.is_done());
        }
        let reply = conversation.reply();
        // The command has ended: what comes now, or has come too late for it, ends us.
        drop(signals);
        drop(self.input);
        for flow in self.outputs {
            drain(flow)?;
        }
        Ok(reply?.map(|(reply, _)| reply))
    }

    /// What can go on: the reply, the input, each output. Signals are passed on.
    fn wait(&self, conversation: &Conversation, signals: &PassedSignals) -> Result<(bool, bool, Vec<bool>), Failure> {
        let input = self.input.as_ref().and_then(Flow::want);
        let mut watched = vec![(conversation.as_fd(), Want::Read), (signals.as_fd(), Want::Read)];
        watched.extend(self.outputs.iter().filter_map(Flow::want));
        watched.extend(input);
        let mut woken = poll::any(&watched, None)?;
        let input = input.is_some() && woken.pop().unwrap_or(false);
        if woken[1] {
            conversation.pass_signals(signals);
        }
        Ok((woken[0], input, woken.split_off(2)))
    }

    fn pass_input(&mut self) -> Result<(), Failure> {
        let Some(flow) = &mut self.input else { return Ok(()) };
        let goes_on = if flow.pending.is_empty() {
            match flow.read() {
                Ok(Some(bytes)) => {
                    flow.pending = bytes;
                    true
                }
                Err(error) if self.input_is_file => {
                    return Err(Report::new(exit_code::FAILURE, "could not read stdin")
                        .because(crate::sys::describe_io(&error))
                        .into());
                }
                // A terminal that was hung up, or whose foreground we are not (EIO), has no more for us.
                Ok(None) | Err(_) => false,
            }
        } else {
            // EPIPE: whoever read it has gone; what it writes may still come.
            flow.write().is_ok()
        };
        if !goes_on {
            // Closes our end, which is the end of the command's stdin.
            self.input = None;
        }
        Ok(())
    }
}

/// Reads or writes, whatever is next.
fn step(flow: &mut Flow) -> Result<(), Failure> {
    if flow.pending.is_empty() {
        flow.pending = flow.read()?.unwrap_or_default();
        return Ok(());
    }
    match flow.write() {
        // The reader of our stdout has gone. So has the command's, then: it gets the SIGPIPE.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => flow.close(),
        written => written?,
    }
    Ok(())
}

/// Passes on what is in the pipe by now. Not what is written while we do, which may never end.
fn drain(mut flow: Flow) -> Result<(), Failure> {
    let mut left = flow.from.as_ref().map_or(Ok(0), |from| stdio::readable_bytes(from.as_fd()))?;
    loop {
        if !flow.pending.is_empty() {
            poll::any(&[(flow.to.as_fd(), Want::Write)], None)?;
            step(&mut flow)?;
            continue;
        }
        if left > 0 {
            step(&mut flow)?;
            left = left.saturating_sub(flow.pending.len());
        }
        // Empty by now: or another process in the container has read it.
        if flow.pending.is_empty() {
            return Ok(());
        }
    }
}

/// (read end, write end), that every user in the container may open through /dev/stdin and /dev/stdout. Only a process that
/// has them can reach them there, whatever their mode (proc_pid_fd(5)).
fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (read, write) = stdio::pipe()?;
    let read = File::from(read);
    read.set_permissions(fs::Permissions::from_mode(0o666))?;
    Ok((read.into(), write))
}
