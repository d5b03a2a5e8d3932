import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command-line tools one after another in one process, since a start of a JVM
 * for each costs more than what they do. A line of standard input is a call, {"class": …, "args":
 * […], "input": …}; a line of standard output is what became of it, {"code": …, "output": …,
 * "errors": …}: the exit code and what the tool wrote, as if it had been a process of its own.
 *
 * <p>A tool ends its process through Kafka's Exit; here that unwinds the call. What comes after it,
 * in the tool's own catch blocks, no longer counts: the first exit code stands, and nothing more is
 * written.
 */
public final class Tools {
    private static final int NO_EXIT = Integer.MIN_VALUE;

    /** Unwinds a tool that ends its process. */
    private static final class Exited extends Error {
        Exited() {
            super("the tool has ended", null, false, false);
        }
    }

    public static void main(String[] none) throws Exception {
        InputStream calls = System.in;
        PrintStream results = System.out;
        PrintStream errors = System.err;
        AtomicInteger exit = new AtomicInteger(NO_EXIT);
        Exit.Procedure procedure = (code, message) -> {
            if (exit.compareAndSet(NO_EXIT, code)) {
                System.setOut(new PrintStream(OutputStream.nullOutputStream()));
                System.setErr(new PrintStream(OutputStream.nullOutputStream()));
            }
            throw new Exited();
        };
        Exit.setExitProcedure(procedure);
        Exit.setHaltProcedure(procedure);
        List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        ObjectMapper json = new ObjectMapper();
        BufferedReader lines = new BufferedReader(new InputStreamReader(calls, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode call = json.readTree(line);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(call.get("input").asText().getBytes(StandardCharsets.UTF_8)));
            PrintStream toOut = new PrintStream(out, true, StandardCharsets.UTF_8);
            PrintStream toErr = new PrintStream(err, true, StandardCharsets.UTF_8);
            System.setOut(toOut);
            System.setErr(toErr);
            exit.set(NO_EXIT);
            int thrown = run(call);
            // As at the end of a process; a producer is closed there, and says what was not sent.
            System.setOut(toOut);
            System.setErr(toErr);
            new ArrayList<>(hooks).forEach(Runnable::run);
            hooks.clear();
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("code", exit.get() == NO_EXIT ? thrown : exit.get());
            System.setOut(results);
            System.setErr(errors);
            result.put("output", out.toString(StandardCharsets.UTF_8));
            result.put("errors", err.toString(StandardCharsets.UTF_8));
            results.println(json.writeValueAsString(result));
            results.flush();
        }
    }

    /** Calls the tool's main; 1 if it lets an exception out, as the JVM's own exit code is then. */
    private static int run(JsonNode call) throws Exception {
        List<String> args = new ArrayList<>();
        call.get("args").forEach(argument -> args.add(argument.asText()));
        try {
            Class.forName(call.get("class").asText())
                .getMethod("main", String[].class)
                .invoke(null, (Object) args.toArray(new String[0]));
            return 0;
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Exited)) {
                thrown.getCause().printStackTrace();
            }
            return 1;
        }
    }
}
