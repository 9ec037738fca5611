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
#   GEMINI_API_KEY  the key; default: that in the line GEMINI_API_KEY=… of KEY_FILE
#   KEY_FILE        default: ~/.config/gemini_batch/key.env, readable only by you
#
# Without `mail` and `sendmail` the report goes to stderr, which cron mails. The exit code is that of the run.
set -u

if [ $# -eq 0 ]; then
    echo 'usage: nightly.sh JOBS.jsonl [flags of gemini-batch run]' >&2
    exit 2
fi

program=${GEMINI_BATCH:-gemini-batch}
key_file=${KEY_FILE:-${HOME:-}/.config/gemini_batch/key.env}
to=${MAILTO-$(id -un)}
scratch=$(mktemp -d) || exit 8
trap 'rm -rf "$scratch"' EXIT
messages=$scratch/messages
summary=$scratch/summary
: >"$messages"
: >"$summary"

# The file is not sourced: the shell would print an invalid line, which may be the key.
read_key() {
    if [ -n "${GEMINI_API_KEY:-}${GOOGLE_API_KEY:-}" ] || [ ! -e "$key_file" ]; then
        return 0
    fi
    if [ -n "$(find -H "$key_file" -prune \( -perm -040 -o -perm -004 \) 2>>"$messages")" ]; then
        echo "$key_file: others may read it; make it yours alone: chmod 600 $key_file" >>"$messages"
        return 6
    fi
    GEMINI_API_KEY=$(sed -n "s/^GEMINI_API_KEY=[\"']\{0,1\}\([^\"']*\).*/\1/p" "$key_file" 2>>"$messages" | tail -n 1)
    if [ -z "$GEMINI_API_KEY" ]; then
        echo "$key_file: has no line GEMINI_API_KEY=…" >>"$messages"
        return 6
    fi
    export GEMINI_API_KEY
}

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
    if [ "$code" -eq 6 ] && [ -z "${GEMINI_API_KEY:-}${GOOGLE_API_KEY:-}" ] && [ ! -e "$key_file" ]; then
        echo "  $key_file: there is no such file, and the environment has no key"
    fi
    if [ -s "$summary" ]; then
        echo
        sed 's/^/  /' "$summary"
    fi
}

mail_report() {
    subject="gemini_batch: $(basename -- "$1"): exit $code"
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

read_key && run "$@"
code=$?
if needs_person "$code"; then
    mail_report "$@" || report "$@" >&2
fi
exit "$code"
