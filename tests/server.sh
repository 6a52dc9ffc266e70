# Starts and stops the server under test; sourced by the runners, never run by itself.
#
# The runner sets `name`, which stands before each of its errors.
#
# Answers for: one server at a time, always stopped, never waited for without a bound, and its log
# shown when it misbehaves. Does not decide what is tested.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
test_env=$root/target/test-env
# LONGWIRE names another program to test; it must take the same arguments.
longwire=${LONGWIRE:-${CARGO_TARGET_DIR:-$root/target}/release/longwire}
# Autobahn sends messages of 16 MiB (9.1.6, 9.2.6); this is 128 KiB more.
message_bytes_max=16908288
start_seconds_max=10
stop_seconds_max=15

server_pid= server_address= server_log= task_pid=

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${name:?}: $*"
    exit 1
}

# Call once, before the first start: nothing that was started outlives the script.
clean_up_on_exit() {
    trap 'kill_started' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

kill_started() {
    [ -z "$task_pid" ] || kill "$task_pid" 2>/dev/null || true
    [ -z "$server_pid" ] || kill -KILL "$server_pid" 2>/dev/null || true
}

# start_server BACKEND LOG [FLAG]...: sets server_address ("127.0.0.1:PORT") once the server says it is ready.
start_server() {
    local backend=$1 waited
    server_log=$2
    shift 2
    [ -x "$longwire" ] || die "$longwire is missing; run 'cargo build --release' first"
    # Here, because the server's shell may come to it later than the first look.
    : >"$server_log"
    # Colour codes could split the line we look for, and a log filter could hide it.
    env -u RUST_LOG -u LONGWIRE_LOG NO_COLOR=1 "$longwire" echo --listen 127.0.0.1:0 --backend "$backend" \
        --message-bytes-max "$message_bytes_max" --drain-time 0s "$@" >"$server_log" 2>&1 &
    server_pid=$!
    for ((waited = 0; waited < start_seconds_max * 20; waited++)); do
        server_address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9][0-9]*\).*/\1/p' "$server_log" | head -n 1)
        [ -z "$server_address" ] || return 0
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    show_server_log
    die "the server with $backend did not say 'listening on 127.0.0.1:PORT'; its log is above"
}

# stop_server: SIGTERM, then checks that the server was alive until now and ended in time and well.
stop_server() {
    local pid=$server_pid status=0 waited
    if ! kill -TERM "$pid" 2>/dev/null; then
        wait "$pid" || status=$?
        server_pid=
        show_server_log
        die "the server ended by itself during the tests (status $status); its log is above"
    fi
    for ((waited = 0; waited < stop_seconds_max * 20; waited++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    if kill -KILL "$pid" 2>/dev/null; then
        wait "$pid" 2>/dev/null || true
        server_pid=
        show_server_log
        die "the server did not stop within $stop_seconds_max s of SIGTERM; its log is above"
    fi
    wait "$pid" || status=$?
    server_pid=
    if [ "$status" -ne 0 ] && [ "$status" -ne 143 ]; then
        show_server_log
        die "the server ended with status $status on SIGTERM; its log is above"
    fi
}

show_server_log() {
    say "--- last lines of $server_log"
    tail -n 20 "$server_log" >&2
    say "---"
}

# run_task COMMAND...: as COMMAND, but a signal to this script takes effect at once; bash would
# otherwise wait for the command first.
run_task() {
    local status=0
    "$@" &
    task_pid=$!
    wait "$task_pid" || status=$?
    task_pid=
    return "$status"
}

# is_testable BACKEND: containers often forbid io_uring, and then there is nothing to test. The call
# below cannot succeed; where io_uring is allowed, the kernel complains about its arguments.
is_testable() {
    case $1 in
        epoll) return 0 ;;
        io_uring) ;;
        *) die "unknown backend '$1'; choose from: epoll io_uring" ;;
    esac
    # Without Python there is no asking; the server will then say itself what is wrong.
    command -v python3 >/dev/null || return 0
    python3 - <<'PYTHON' && return 0
import ctypes, errno, sys
IO_URING_SETUP = 425
ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 0, None)
sys.exit(ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS))
PYTHON
    [ -z "${CI:-}" ] || die "this machine does not allow io_uring (CI may not skip it)"
    say "SKIPPED $1: this machine does not allow it; look at /proc/sys/kernel/io_uring_disabled"
    return 1
}
