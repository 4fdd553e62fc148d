"""Converts dates and times of day, as customers write them, to ISO 8601.

A relative date ("yesterday") counts from the day of the message.
"""

import re
from datetime import date, timedelta
from typing import Callable, Dict, List, Optional

from kefu.worker.nlu.values import number

_WEEKDAYS_ZH = "一二三四五六日"
_WEEKDAYS_EN = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBERS = re.compile(r"\d+|[零〇一二两三四五六七八九十百]+")
_AFTERNOON = ("下午", "晚上", "傍晚", "晚", "pm", "p.m", "afternoon", "evening", "night")
_DAYS = {"days": 1, "weeks": 7}


def day(words: str, rule: str, today: date) -> Optional[str]:
    """Return the date that a match means, as YYYY-MM-DD.

    Args:
        words: the words of the match.
        rule: the pattern's id: a name in `_RULES`, which a space and the rule's argument may follow (`day -1`).
        today: the day of the message, in the shop's time zone.

    Returns:
        None if the calendar has no such day (February 30).
    """
    name, _, argument = rule.partition(" ")
    try:
        found = _RULES[name](words, argument, today)
    except (ValueError, OverflowError):
        return None
    return found.isoformat() if found else None


def clock(words: str, fixed: str) -> Optional[str]:
    """Return the time of day that a match means, as HH:MM; None if it is no time.

    Args:
        words: the words of the match.
        fixed: the pattern's id: `clock` if the words contain the time, otherwise the time itself (`12:00`).
    """
    if fixed != "clock":
        return fixed
    lowered = words.lower()
    found = None if words == "一点" else _hour_and_minute(lowered)  # 一点 usually means "a little"
    lowered = lowered.replace(" ", "")
    if found is None:
        return None
    hour, minute = found
    if hour < 12 and (any(sign in lowered for sign in _AFTERNOON) or ("中午" in lowered and hour < 4)):
        hour += 12
    elif hour == 12 and ("am" in lowered or "a.m" in lowered or "凌晨" in lowered or "半夜" in lowered):
        hour = 0
    elif (hour == 12 and "晚" in lowered) or hour == 24:
        hour = 0
    return f"{hour:02}:{minute:02}" if hour < 24 and minute < 60 else None


def _hour_and_minute(words: str) -> "Optional[tuple[int, int]]":
    english = re.search(r"(half|quarter) +(past|to) +(\w+)", words)
    if english:
        hour = _whole(english.group(3))
        minute = 30 if english.group(1) == "half" else 15
        if hour is None:
            return None
        return (hour - 1, 60 - minute) if english.group(2) == "to" else (hour, minute)
    digits = re.search(r"(\d{1,2})[:.](\d{2})", words)
    if digits:
        return int(digits.group(1)), int(digits.group(2))
    hour = _whole(words.split("点")[0])
    if hour is None:
        return None
    rest = words.partition("点")[2]
    if "刻" in rest:
        return hour, 45 if "三" in rest else 15
    return hour, 30 if "半" in rest else (_whole(rest) or 0)


def _whole(words: str) -> Optional[int]:
    found = number(words)
    return None if found is None else int(found)


def _numbers(words: str) -> List[int]:
    return [int(each) if each.isdigit() else int(number(each) or 0) for each in _NUMBERS.findall(words)]


def _relative(words: str, days: str, today: date) -> date:
    return today + timedelta(days=int(days))


def _weekday(words: str, week: str, today: date) -> Optional[date]:
    lowered = words.lower()
    wanted = next((at for at, name in enumerate(_WEEKDAYS_EN) if re.search(rf"\b{name}", lowered)), None)
    if wanted is None:
        last = words[-1].replace("天", "日")
        wanted = int(last) - 1 if last.isdigit() else _WEEKDAYS_ZH.index(last)
    monday = today - timedelta(days=today.weekday())
    if week != "near":
        return monday + timedelta(days=wanted + 7 * int(week))
    days = (wanted - today.weekday() + 3) % 7 - 3  # the nearest day of that name, at most three days away
    return today + timedelta(days=days)


def _ago(unit: int) -> Callable[[str, str, date], Optional[date]]:
    def found(words: str, direction: str, today: date) -> Optional[date]:
        count = number(words)
        return None if count is None else today + timedelta(days=int(count) * unit * int(direction))

    return found


def _months(words: str, direction: str, today: date) -> Optional[date]:
    count = number(words)
    return None if count is None else _moved(today, int(count) * int(direction))


def _moved(today: date, months: int) -> date:
    """Return the same day, `months` months later or, if negative, earlier; that month's last day if it is shorter."""
    month = today.year * 12 + today.month - 1 + months
    for last in range(today.day, 27, -1):
        try:
            return date(month // 12, month % 12 + 1, last)
        except ValueError:
            continue
    return date(month // 12, month % 12 + 1, min(today.day, 28))


def _iso(words: str, _: str, today: date) -> date:
    year, month, of_month = map(int, re.split(r"[-/.]", words))
    return date(year, month, of_month)


def _chinese(words: str, _: str, today: date) -> Optional[date]:
    found = _numbers(words)
    if "月" not in words:
        return today.replace(day=found[0])
    if "年" in words:
        shift = {"今": 0, "去": -1, "明": 1}.get(words[0])
        year = today.year + shift if shift is not None else found.pop(0)
        year += 2000 if year < 100 else 0
        return date(year, found[0], found[1])
    if len(found) == 1:
        month = _moved(today.replace(day=1), {"上": -1, "下": 1}.get(words[0], 0))
        return month.replace(day=found[0])
    return _nearest(today, found[0], found[1])


def _fixed(words: str, month_day: str, today: date) -> date:
    return _nearest(today, *map(int, month_day.split("-")))


def _slash(words: str, _: str, today: date) -> date:
    return _nearest(today, *map(int, words.split("/")))


def _english(words: str, _: str, today: date) -> Optional[date]:
    lowered = words.lower()
    month = next((at + 1 for at, name in enumerate(_MONTHS) if re.search(rf"\b{name}|\d{name}", lowered)), None)
    found = sorted(map(int, re.findall(r"\d+", lowered)))
    if month is None:
        shift = {"last": -1, "next": 1}.get(lowered.split()[-2] if "month" in lowered else "", 0)
        return _moved(today.replace(day=1), shift).replace(day=found[0])
    return date(found[1], month, found[0]) if len(found) > 1 else _nearest(today, month, found[0])


def _nearest(today: date, month: int, of_month: int) -> date:
    """Return the day of the last, this or the next year, whichever is nearest to today."""
    years = [date(today.year + shift, month, of_month) for shift in (-1, 0, 1)]
    return min(years, key=lambda each: abs(each - today))


_RULES: Dict[str, Callable[[str, str, date], Optional[date]]] = {
    "day": _relative,
    "weekday": _weekday,
    "days": _ago(_DAYS["days"]),
    "weeks": _ago(_DAYS["weeks"]),
    "months": _months,
    "iso": _iso,
    "cn": _chinese,
    "slash": _slash,
    "en": _english,
    "on": _fixed,
}
