"""The demo shop's rules. They are data: they are written into the table `policies` and read from there."""

from typing import Any

POLICIES: dict[str, Any] = {
    "refund_days": 7,
    "refund_postage": {
        "zh": "商品有质量问题或发错货，退货运费由我们承担；其他原因由顾客承担。",
        "en": "We pay the return postage for faulty or wrong goods; otherwise the customer does.",
    },
    "payment_methods": [
        {"zh": "支付宝", "en": "Alipay"},
        {"zh": "微信支付", "en": "WeChat Pay"},
        {"zh": "银联卡", "en": "UnionPay card"},
        {"zh": "Visa 或 Mastercard 信用卡", "en": "Visa or Mastercard credit card"},
    ],
    "delivery": [
        {
            "name": {"zh": "普通快递", "en": "standard delivery"},
            "price": "8.00", "currency": "CNY", "days": {"min": 2, "max": 4},
            "regions": {"zh": "中国大陆", "en": "mainland China"},
        },
        {
            "name": {"zh": "次日达", "en": "next-day delivery"},
            "price": "20.00", "currency": "CNY", "days": {"min": 1, "max": 1},
            "regions": {"zh": "上海、北京、杭州、广州、成都", "en": "Shanghai, Beijing, Hangzhou, Guangzhou, Chengdu"},
        },
        {
            "name": {"zh": "国际快递", "en": "international delivery"},
            "price": "120.00", "currency": "CNY", "days": {"min": 5, "max": 12},
            "regions": {"zh": "英国、美国", "en": "the United Kingdom and the United States"},
        },
    ],
    "ships_within_hours": 24,
    "cancellation": {"free_hours": 2, "fee_percent": 5},
    "quantity_limit": 10,
    "account_deleted_after_days": 7,
    "refund_paid_within_days": 5,
    "invoice": {
        "kinds": {"zh": "电子普通发票", "en": "electronic general invoices"},
        "within_hours": 24,
    },
    "service": {
        "phone": "400-000-0000", "email": "service@example.com",
        "hours": {"zh": "每天 9:00–21:00（北京时间）", "en": "9 am to 9 pm every day, Beijing time"},
        "opens": "09:00", "closes": "21:00",
    },
    "answer_within_hours": {"complaint": 24, "callback": 2, "payment": 4, "registration": 4, "review": 72},
    "registration": {
        "steps": {
            "zh": "在首页点击“注册”，填写手机号和短信验证码，再设置密码即可。",
            "en": "Choose “Sign up” on the home page, enter your phone number and the code we text you, "
            "then set a password.",
        }
    },
    "order_steps": {
        "zh": "选好商品后加入购物车，点击“结算”，确认收货地址和付款方式，提交订单并付款。",
        "en": "Put the goods into the cart, choose “Check out”, confirm address and payment method, "
        "then place the order and pay.",
    },
    "review": {
        "where": {
            "zh": "收货后在“我的订单”里打开该订单，点击“评价”。",
            "en": "After delivery open the order under “My orders” and choose “Review”.",
        }
    },
}  # fmt: skip
