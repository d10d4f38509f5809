#!/bin/sh
# Stands for `systemctl stop|start|is-active discord-bot`: remembers in a file whether the bot runs.
case $1 in
    stop) rm -f bot.running ;;
    start) : >bot.running ;;
    check) test -e bot.running ;;
esac
