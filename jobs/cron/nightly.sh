#!/bin/sh
# Runs a manifest, and sends a mail only if action is required:
#
#     nightly.sh JOBS.jsonl [flags of `gemini-batch run`]
#
# A night that ends because the day's quota is used up is normal: the next one continues. Action is required if calls of this night failed
# or were rejected, the key or the project is refused, the disk is full, the manifest is wrong, or the program has a bug.
#
# Optional environment variables:
#   MAILTO          the recipient; default: this user; empty: no mail
#   GEMINI_BATCH    the program; default: gemini-batch, from PATH
#   GEMINI_API_KEY  the key; default: that of ~/.config/gemini_batch/key.env, which only you may be able to read
#
# Without `mail` and `sendmail` the report goes to stderr, which cron mails. The exit code is that of the run.
set -u

if [ $# -eq 0 ]; then
    echo 'usage: nightly.sh JOBS.jsonl [flags of gemini-batch run]' >&2
    exit 2
fi

program=${GEMINI_BATCH:-gemini-batch}
to=${MAILTO-$(id -un)}
scratch=$(mktemp -d) || exit 8
trap 'rm -rf "$scratch"' EXIT
messages=$scratch/messages
summary=$scratch/summary
: >"$messages"
: >"$summary"

# --json prints the summary of this run, so that none of an earlier night is used.
run() {
    "$program" run "$@" --json </dev/null >"$summary" 2>"$messages" &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null' HUP INT TERM
    wait "$child"
    code=$?
    # A signal ends the wait, not the run, which completes the calls in flight.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    return "$code"
}

needs_person() {
    case $1 in
    0 | 130 | 143) return 1 ;;
    7) return 1 ;; # another run holds the folder and does the work
    4 | 5) ! grep -q '"needs_person": false' "$summary" ;;
    *) return 0 ;;
    esac
}

# Indented by two spaces, so that no line is a command to a mail program.
report() {
    echo "$program run $*"
    echo "exited with $code on $(uname -n). Its last messages:"
    echo
    tail -n 30 "$messages" | sed 's/^/  /'
    if [ -s "$summary" ]; then
        echo
        sed 's/^/  /' "$summary"
    fi
}

mail_report() {
    subject="gemini-batch: $(basename -- "$1"): exit $code"
    if [ -z "$to" ]; then
        return 1
    elif command -v mail >/dev/null; then
        report "$@" | mail -s "$subject" "$to"
    elif command -v sendmail >/dev/null; then
        {
            printf 'To: %s\nSubject: %s\nMIME-Version: 1.0\n' "$to" "$subject"
            printf 'Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n'
            report "$@"
        } | sendmail -i -t
    else
        return 1
    fi
}

run "$@"
code=$?
if needs_person "$code"; then
    mail_report "$@" || report "$@" >&2
fi
exit "$code"
