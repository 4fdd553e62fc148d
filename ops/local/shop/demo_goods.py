"""The demo shop's goods with their names, synonyms and features."""

from typing import Any

# SKU, Chinese and English name, synonyms, price in fen, stock, months of warranty, Chinese and English features.
GOODS: tuple[tuple[Any, ...], ...] = (
    ("AU-101", "蓝牙耳机", "Bluetooth earphones",
     ["耳机", "真无线耳机", "無線耳機", "藍牙耳機", "耳麦", "headphones", "headset", "earbuds", "earphone"],
     29900, 120, 12,
     ["主动降噪", "单次续航 8 小时，配合充电盒 32 小时", "IPX4 防水", "蓝牙 5.3"],
     ["active noise cancelling", "8 hours a charge, 32 with the case", "splash-proof (IPX4)", "Bluetooth 5.3"]),
    ("PB-201", "充电宝", "Power bank",
     ["移动电源", "行動電源", "行动电源", "充電寶", "powerbank", "portable charger", "battery pack"], 12900, 200, 12,
     ["容量 10000 毫安时", "22.5 瓦快充", "可带上飞机"],
     ["10,000 mAh", "22.5 W fast charging", "allowed on planes"]),
    ("MC-301", "手机壳", "Phone case",
     ["手機殼", "手机套", "保护壳", "phone cover", "case for my phone"], 3900, 500, 3,
     ["防摔四角", "支持无线充电", "透明不易发黄"],
     ["corners that take a fall", "works with wireless charging", "clear, slow to yellow"]),
    ("KC-401", "电饭煲", "Rice cooker",
     ["電飯煲", "電鍋", "电饭锅", "饭煲"], 39900, 60, 24,
     ["容量 4 升，适合 3 到 6 人", "24 小时预约", "不粘内胆"],
     ["4 litres, for 3 to 6 people", "24-hour timer", "non-stick pot"]),
    ("HM-501", "保温杯", "Thermos",
     ["保溫杯", "水杯", "thermos mug", "thermos flask", "vacuum flask", "insulated bottle"], 8900, 300, 6,
     ["容量 500 毫升", "保温 12 小时", "316 不锈钢内胆"],
     ["500 ml", "keeps hot for 12 hours", "316 stainless steel inside"]),
    ("HM-601", "台灯", "Desk lamp",
     ["檯燈", "桌灯", "护眼灯", "reading lamp", "table lamp", "desk light"], 12900, 90, 12,
     ["四档亮度，三种色温", "无频闪", "USB-C 供电"],
     ["four levels of brightness, three colours of white", "no flicker", "powered by USB-C"]),
    ("PC-701", "机械键盘", "Mechanical keyboard",
     ["鍵盤", "機械鍵盤", "键盘", "keyboard"], 39900, 45, 24,
     ["87 键", "热插拔轴体", "有线、蓝牙、2.4G 三种连接"],
     ["87 keys", "hot-swappable switches", "by cable, Bluetooth or 2.4 GHz"]),
    ("HD-801", "吹风机", "Hair dryer",
     ["吹風機", "电吹风", "风筒", "hairdryer", "blow dryer"], 25900, 80, 12,
     ["1600 瓦", "负离子护发", "冷热风三档"],
     ["1,600 W", "ionic hair care", "three settings of warm and cool air"]),
    ("AU-901", "蓝牙音箱", "Bluetooth speaker",
     ["藍牙音箱", "音箱", "音响", "喇叭", "speaker", "loudspeaker"], 19900, 0, 12,
     ["续航 12 小时", "IPX7 防水", "两台可组立体声"],
     ["12 hours a charge", "waterproof (IPX7)", "two of them make stereo"]),
    ("TR-901", "行李箱", "Suitcase",
     ["拉杆箱", "旅行箱", "行李箱包", "luggage", "trolley case", "carry-on"], 45900, 35, 36,
     ["20 英寸，可登机", "静音万向轮", "TSA 海关锁"],
     ["20 inches, fits the cabin", "quiet wheels that turn all ways", "TSA lock"]),
)  # fmt: skip


def products(tenant: str) -> list[dict[str, Any]]:
    """Return rows of the table `products`."""
    names = ("sku", "name_zh", "name_en", "synonyms", "price_minor", "stock", "warranty_months", "features_zh",
             "features_en")  # fmt: skip
    return [{"tenant": tenant, "currency": "CNY", **dict(zip(names, goods, strict=True))} for goods in GOODS]
