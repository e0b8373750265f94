//! `run` without `-d`: what the containers write goes to our stdout and stderr, our signals go to the pod, until it ends.

use std::os::fd::{AsFd, BorrowedFd};

use super::client::{self, Conversation, exit_byte};
use super::outlet::Trouble;
use super::relay::{self, Attachment, Options, Owner};
use super::{Failure, print, rm};
use crate::report::Report;
use crate::state::StoredPod;
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::process::signal_name;
use crate::sys::terminal::{ForegroundSignals, Sent};

/// For a pod whose reader has gone. A pipeline of a shell would kill its writer at once (SIGPIPE); a container's first process
/// is not killed by that, and may have to clean up.
const GRACE_WITHOUT_READER: u64 = 1;

/// How staying with a pod ended.
pub(crate) enum Ending {
    /// With the pod: its main container's exit code.
    Exited(u8),
    /// With the pod, which was stopped since the reader of our output had gone.
    ReaderGone,
    /// The pod goes on.
    Detached,
}

/// Stays until the pod has ended and everything that its containers wrote is written.
pub(crate) fn stay(
    pod: &StoredPod,
    attachment: Attachment<'_>,
    options: Options,
    signals: &ForegroundSignals,
    early: &[Sent],
) -> Result<Ending, Failure> {
    let mut foreground = Foreground {
        pod,
        // In raw mode a newline does not return to the first column, and the container writes to the same screen.
        shows_news: attachment.master.is_none(),
        news: client::ask(pod, &Request::Follow, &[])?,
        exited: None,
        stopper: Stopper::new(pod),
        reader_gone: false,
        failed: None,
    };
    early.iter().try_for_each(|sent| foreground.on_signal(*sent))?;
    let end = relay::owned(attachment, options, signals, &mut foreground)?;
    let Foreground { exited, reader_gone, failed, .. } = foreground;
    match (failed, end, exited) {
        (Some(report), ..) => Err(report.into()),
        (None, relay::End::Detached, _) => Ok(Ending::Detached),
        (None, relay::End::Closed, _) if reader_gone => Ok(Ending::ReaderGone),
        (None, relay::End::Closed, Some(code)) => Ok(Ending::Exited(code)),
        (None, relay::End::Closed, None) => {
            let main = client::container(pod, None)?;
            client::recorded_exit(&pod.reload(), &main).map(Ending::Exited).map_err(Failure::from)
        }
    }
}

struct Foreground<'a> {
    pod: &'a StoredPod,
    shows_news: bool,
    /// Until the pod's end.
    news: Option<Conversation>,
    exited: Option<u8>,
    stopper: Stopper,
    reader_gone: bool,
    /// Why our output is not complete.
    failed: Option<Report>,
}

impl Owner for Foreground<'_> {
    fn on_signal(&mut self, sent: Sent) -> Result<(), Failure> {
        match sent {
            sent if sent.is_key() => self.stopper.press(),
            Sent::End { signal, .. } => self.stopper.ask(None, signal_name(signal)),
            Sent::Other(signal) => self.pass_on(signal),
            Sent::Resized => Ok(()),
        }
    }

    fn on_trouble(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            // Ctrl-C reaches the reader of our output, too, and a reader may end with the pod: the grace stays as it is.
            Trouble::ReaderGone if self.stopper.has_asked() => Ok(()),
            Trouble::ReaderGone => {
                self.reader_gone = true;
                self.stopper.ask_in_silence(Some(GRACE_WITHOUT_READER))
            }
            Trouble::HungUp => self.stopper.ask_in_silence(None),
            Trouble::Failed(stream, error) => {
                let report = relay::write_failed(stream, &error);
                self.stopper.ask(None, format!("{}: {}", report.what, report.chain.join(": ")))?;
                self.failed.get_or_insert(report);
                Ok(())
            }
        }
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(AsFd::as_fd)
    }

    fn on_news(&mut self) -> Result<(), Failure> {
        let Some(news) = &self.news else { return Ok(()) };
        match news.reply()? {
            Some((Reply::Told { what, why }, _)) => {
                if self.shows_news {
                    print::notice(&what, &why);
                }
                return Ok(());
            }
            Some((Reply::Exited { code }, _)) => self.exited = Some(exit_byte(code)),
            Some((other, _)) => return Err(client::unexpected(&other).into()),
            // The supervisor was killed; the record says what is known.
            None => {}
        }
        self.news = None;
        Ok(())
    }
}

impl Foreground<'_> {
    /// To the first process of the main container.
    fn pass_on(&self, signal: i32) -> Result<(), Failure> {
        let main = client::container(self.pod, None)?;
        let request = Request::Kill { container: Some(main), signal };
        let answer = client::ask(self.pod, &request, &[]).and_then(|asked| match asked {
            Some(conversation) => conversation.reply_soon().map(drop),
            // The pod has ended.
            None => Ok(()),
        });
        if let Err(report) = answer {
            let what = format!("{} could not be passed on: {}", signal_name(signal), report.what);
            print::notice("warning", &what);
        }
        Ok(())
    }
}

/// Asks for the pod's end: gracefully once, whatever the reason and how often there is one. Only a person who presses Ctrl-C
/// a second time shortens the grace, and ends the supervisor with a third.
struct Stopper {
    pod: StoredPod,
    asked: bool,
    pressed: u32,
    /// Kept open: a request ends with its connection.
    conversations: Vec<Conversation>,
}

impl Stopper {
    fn new(pod: &StoredPod) -> Stopper {
        Stopper { pod: pod.clone(), asked: false, pressed: 0, conversations: Vec::new() }
    }

    fn has_asked(&self) -> bool {
        self.asked
    }

    fn press(&mut self) -> Result<(), Failure> {
        self.pressed += 1;
        match self.pressed {
            1 => {
                print::notice("stopping", &format!("{}; Ctrl-C again kills it", self.what_happens()));
                self.ask_in_silence(None)
            }
            2 => self.request(Some(0)),
            _ => rm::end(&self.pod.reload()).map_err(Failure::from),
        }
    }

    fn ask(&mut self, grace_seconds: Option<u64>, why: impl std::fmt::Display) -> Result<(), Failure> {
        if !self.asked {
            print::notice("stopping", &format!("{} ({why})", self.what_happens()));
        }
        self.ask_in_silence(grace_seconds)
    }

    fn ask_in_silence(&mut self, grace_seconds: Option<u64>) -> Result<(), Failure> {
        if std::mem::replace(&mut self.asked, true) {
            return Ok(());
        }
        self.request(grace_seconds)
    }

    fn request(&mut self, grace_seconds: Option<u64>) -> Result<(), Failure> {
        let grace_seconds = grace_seconds.map(|asked| self.grace().map_or(asked, |own| asked.min(own)));
        self.conversations.extend(client::ask(&self.pod, &Request::Stop { grace_seconds }, &[])?);
        Ok(())
    }

    fn grace(&self) -> Option<u64> {
        self.pod.plan.as_ref().map(|plan| plan.lifecycle.termination_grace_period.as_secs())
    }

    fn what_happens(&self) -> String {
        let time = self.grace().map_or_else(String::new, |seconds| format!(" has {seconds} s to end by itself"));
        format!("pod `{}`{time}", self.pod.name)
    }
}
