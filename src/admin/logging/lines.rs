//! Lines of the log, with the request that each belongs to.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::server::LogRequest;

/// The fields of a line of text; the request's follow its own.
pub(super) struct Text<F>(pub(super) F);

impl<'a, F: for<'w> FormatFields<'w>> FormatFields<'a> for Text<F> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut line = String::new();
        LogRequest::present(|request| line = format!(" {request}"));
        self.0.format_fields(writer.by_ref(), fields)?;
        writer.write_str(&line)
    }
}

/// A line that is an object of JSON; the request's fields are its last.
pub(super) struct Json<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let request = LogRequest::present(serde_json::to_string);
        let Some(Ok(request)) = request else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match (line.trim_end().strip_suffix('}'), request.strip_prefix('{')) {
            (Some(line), Some(request)) => writeln!(writer, "{line},{request}"),
            _ => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::{Subscriber as Log, SubscriberBuilder};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn log(
            &self,
        ) -> SubscriberBuilder<
            tracing_subscriber::fmt::format::DefaultFields,
            tracing_subscriber::fmt::format::Format,
            tracing_subscriber::filter::LevelFilter,
            impl Fn() -> Written + use<>,
        > {
            let written = self.clone();
            Log::builder().with_ansi(false).with_writer(move || written.clone())
        }

        /// One line of a request and one of none.
        fn lines(&self, log: impl Subscriber + Send + Sync + 'static) -> Vec<String> {
            with_default(log, || {
                let request = LogRequest::of("a \"client\"");
                request.work_on(|| tracing::warn!(partition = "a-0", more = 2, "cannot be read"));
                tracing::warn!("of nobody");
            });
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_line_of_text_ends_with_the_request_it_belongs_to() {
        let written = Written::default();
        let lines = written.lines(written.log().map_fmt_fields(Text).finish());
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with(
                "cannot be read partition=\"a-0\" more=2 connection=7 peer=192.0.2.1:40000 \
             listener=PLAINTEXT client_id=\"a \\\"client\\\"\" api=\"Fetch\" version=17 \
             correlation_id=4"
            ),
            "{}",
            lines[0]
        );
        assert!(lines[1].ends_with("of nobody"), "{}", lines[1]);
    }

    #[test]
    fn a_line_of_json_has_the_fields_of_the_request_it_belongs_to() {
        let written = Written::default();
        let log = written.log().json().flatten_event(true).map_event_format(Json).finish();
        let lines = written.lines(log);
        let parsed: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 2);
        let (of, nobody) = (&parsed[0], &parsed[1]);
        assert_eq!(of["message"], "cannot be read");
        assert_eq!((&of["more"], &of["connection"]), (&2.into(), &7.into()));
        assert_eq!(of["client_id"], "a \"client\"");
        assert_eq!((&of["api"], &of["correlation_id"]), (&"Fetch".into(), &4.into()));
        assert_eq!(nobody["message"], "of nobody");
        assert!(nobody.get("connection").is_none());
    }
}
